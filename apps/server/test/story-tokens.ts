// Tokens of the story engine: words of a few lines that everybody may use, with their spaces.
import type { PromptTokenizer } from "../src/tokenize/prompt-tokenizer.ts";

const LINES = [
  "In the beginning God created the heaven and the earth.",
  " And the earth was without form, and void; and darkness was upon the face of the deep.",
  " And the Spirit of God moved upon the face of the waters.",
  " And God said, Let there be light: and there was light.",
  " And God saw the light, that it was good: and God divided the light from the darkness.",
];

/** The story, one token after another: ids count from 0. */
export const STORY: readonly string[] = LINES.join("").match(/ ?[A-Za-z]+|[^A-Za-z]/g) ?? [];

/** Text of a token; of ids past the story, markup that a page must not take for markup. */
export const textOf = (id: number): string => STORY[id] ?? "<b>";

/** Token of a prompt that asks for markup. */
export const ASKS_FOR_MARKUP = 1;

const encode = (text: string): number[] => Array.from(text, (character) => (character === "<" ? ASKS_FOR_MARKUP : 0));

/** Each character of a prompt is a token. What they say does not matter to the story, but `<` asks for markup. */
export const storyTokenizer: PromptTokenizer = {
  longestToken: 16,
  encode,
  encodeChat: (messages) => messages.flatMap(({ content }) => encode(content)),
  textOf,
  decode: (tokens) => tokens.map(textOf).join(""),
};
