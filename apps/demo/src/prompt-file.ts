import { readText } from "@lockstep/language-model/json-file";
import { UsageError } from "./errors.ts";

/**
 * Texts of a file, one on each line that is not empty.
 * Throws ModelError when there is no such file, {@link UsageError} when it holds none.
 */
export function readPrompts(path: string): string[] {
  const text = readText(path);
  const prompts = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (prompts.length === 0) throw new UsageError(`--prompt-file must hold a text, but ${path} holds none.`);
  return prompts;
}
