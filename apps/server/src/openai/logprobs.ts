// Log-probabilities in the two forms that OpenAI has.
import type { GeneratedToken } from "@lockstep/language-model";

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

/** As completions have them. `offset` is the number of characters before the tokens. */
export function completionLogprobs(tokens: readonly GeneratedToken[], textOf: TextOf, offset: number) {
  const texts = tokens.map(({ id }) => textOf(id));
  let at = offset;
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logprob = 0 }) => logprob),
    // The token itself is told even when it is not among the likeliest.
    top_logprobs: tokens.map(({ id, logprob = 0, top = [] }) =>
      Object.fromEntries([{ id, logprob }, ...top].map((one) => [textOf(one.id), one.logprob])),
    ),
    text_offset: texts.map((text) => {
      const start = at;
      at += text.length;
      return start;
    }),
  };
}
