import { MOST_LOGPROBS } from "@lockstep/language-model";
import { z } from "zod";
import type { Limits } from "../limits.ts";
import { generationFields, tokenCount, unicode } from "./generation-fields.ts";

const isTokens = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0);

/** Token ids, looked at in one go: a list may have as many as a body holds. */
const tokens = z.custom<readonly number[]>((value) => isTokens(value) && value.length > 0, {
  message: "must be a text, texts, token ids, or lists of token ids, none of them empty",
});

/** The body of /v1/completions. */
export function completionsSchema(limits: Limits) {
  const texts = unicode.min(1, "must not be empty");
  return z.strictObject({
    ...generationFields(limits),
    prompt: z.union([
      texts,
      tokens,
      z
        .array(z.union([texts, tokens]))
        .min(1)
        .max(limits.choices),
    ]),
    max_tokens: tokenCount.optional(),
    logprobs: z.int().min(0).max(MOST_LOGPROBS).optional(),
  });
}

/** The prompts of a body, each a text or token ids. */
export function promptsOf(prompt: CompletionsBody["prompt"]): readonly (string | readonly number[])[] {
  if (typeof prompt === "string" || isTokens(prompt)) return [prompt];
  return prompt;
}

export type CompletionsBody = z.output<ReturnType<typeof completionsSchema>>;
