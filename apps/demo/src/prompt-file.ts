import { readFileSync } from "node:fs";
import { ModelError, UsageError } from "./errors.ts";

/**
 * Texts of a file, one on each line that is not empty.
 * Throws {@link ModelError} when there is no such file, {@link UsageError} when it holds none.
 */
export function readPrompts(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new ModelError(path, "a readable file", "none");
  }
  const prompts = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (prompts.length === 0) throw new UsageError(`--prompt-file must hold a text, but ${path} holds none.`);
  return prompts;
}
