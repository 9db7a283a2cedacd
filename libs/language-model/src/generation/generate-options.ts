// What a generator is asked for, and that it is what its types say, for callers whose compiler does not.
import { ArgumentError, describe } from "@lockstep/tensor";
import { checkTokenIds } from "./token-ids.ts";

/** What to make of a prompt. */
export interface GenerateOptions {
  /** Most tokens to generate. */
  readonly maxTokens: number;
  /** Tokens that end the text; they are not yielded. Default: none. */
  readonly endTokens?: readonly number[];
  /** Told how many tokens of the prompt are `done`: computed and stored. */
  readonly onPrefill?: (done: number) => void;
  /** A step to be explained afterwards, counted from 1 with those of the prompts: see `Generator.explain`. */
  readonly explain?: number | "last";
}

/** @throws ArgumentError unless there are from 1 to `most` prompts of known tokens */
export function checkPrompts(
  operation: string,
  prompts: readonly (readonly number[])[],
  most: number,
  vocabularySize: number,
): void {
  if (!Array.isArray(prompts)) throw new ArgumentError(operation, "prompts", "a list of prompts", describe(prompts));
  const { length } = prompts;
  if (length < 1 || length > most) {
    throw new ArgumentError(operation, "prompts", `from 1 to ${most}, the texts it was opened for`, `${length}`);
  }
  for (const [index, prompt] of prompts.entries()) checkPrompt(operation, `prompts[${index}]`, prompt, vocabularySize);
}

/** @throws ArgumentError unless a prompt has known tokens, and at least one */
export function checkPrompt(
  operation: string,
  argument: string,
  prompt: readonly number[],
  vocabularySize: number,
): void {
  checkTokenIds(operation, argument, prompt, vocabularySize);
  if (prompt.length === 0) throw new ArgumentError(operation, argument, "at least one token", "none");
}

/** @throws ArgumentError */
export function checkGenerateOptions(operation: string, options: GenerateOptions): void {
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(operation, "options", "an object with maxTokens", describe(options));
  }
  const { maxTokens, endTokens = [], explain } = options;
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new ArgumentError(operation, "maxTokens", "a positive integer", describe(maxTokens));
  }
  if (!Array.isArray(endTokens) || !endTokens.every((id) => Number.isInteger(id))) {
    throw new ArgumentError(operation, "endTokens", "a list of token ids", describe(endTokens));
  }
  checkOnPrefill(operation, options.onPrefill);
  if (explain === undefined || explain === "last" || (Number.isInteger(explain) && explain >= 1)) return;
  throw new ArgumentError(operation, "explain", 'a positive integer or "last"', describe(explain));
}

/** @throws ArgumentError */
export function checkOnPrefill(operation: string, onPrefill: unknown): void {
  if (onPrefill === undefined || typeof onPrefill === "function") return;
  throw new ArgumentError(operation, "onPrefill", "a function", describe(onPrefill));
}
