// Log-probabilities in the two forms that OpenAI has.
import type { GeneratedToken } from "@lockstep/language-model";
import type { TextOffsets } from "../tokenize/text-offsets.ts";

type TextOf = (token: number) => string;

const encoder = new TextEncoder();

/** A part of a character has no bytes of its own here: null. */
const bytesOf = (text: string): number[] | null => (text.includes("\uFFFD") ? null : [...encoder.encode(text)]);

/** As chat completions have them. */
export function chatLogprobs(tokens: readonly GeneratedToken[], textOf: TextOf) {
  const entry = (id: number, logprob: number) => {
    const token = textOf(id);
    return { token, logprob, bytes: bytesOf(token) };
  };
  const content = tokens.map(({ id, logprob = 0, top = [] }) => ({
    ...entry(id, logprob),
    top_logprobs: top.map((one) => entry(one.id, one.logprob)),
  }));
  return { content, refusal: null };
}

/** As completions have them. `offsets` has taken the tokens of the text before these. */
export function completionLogprobs(tokens: readonly GeneratedToken[], textOf: TextOf, offsets: TextOffsets) {
  return {
    tokens: tokens.map(({ id }) => textOf(id)),
    token_logprobs: tokens.map(({ logprob = 0 }) => logprob),
    // The token itself is told even when it is not among the likeliest.
    top_logprobs: tokens.map(({ id, logprob = 0, top = [] }) =>
      Object.fromEntries([{ id, logprob }, ...top].map((one) => [textOf(one.id), one.logprob])),
    ),
    text_offset: tokens.map(({ id }) => offsets.push(id)),
  };
}
