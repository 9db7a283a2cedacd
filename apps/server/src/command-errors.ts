import { UnfitOptions } from "@lockstep/language-model";
import { UsageError } from "./usage-error.ts";

/** Errors of the command line, the model folder or the machine that the user can act on: exit code 2. */
const USER_ERRORS = ["UsageError", "ModelError", "UnfitOptions", "SafetensorsError", "BackendUnavailable"];

/** One line for people, which begins with the command's name, and the exit code. */
export function explainFailure(command: string, error: unknown): { line: string; code: number } {
  const culprit = userError(error);
  const shown = culprit ?? error;
  let message = shown instanceof Error ? shown.message : String(shown);
  if (shown instanceof UnfitOptions) message = withFlags(shown.problem);
  return { line: `${command}: ${message.replace(/\s*\n\s*/g, " ")}`, code: culprit === undefined ? 1 : 2 };
}

/** The error itself or the one behind it (a rank's, when a world could not start) that the user can act on. */
function userError(error: unknown): Error | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof UsageError || USER_ERRORS.includes(error.name)) return error;
  return userError(error.cause);
}

/** What the command line calls otherwise than the library. */
const NAMES: Readonly<Record<string, string>> = { capacity: "max-context", kvDtype: "kv", i8: "int8", f8e4m3: "fp8" };

/** Names of the library's options, which stand between backticks, as flags: `kvTokens` is --kv-tokens. */
function withFlags(problem: string): string {
  return problem
    .replace(/`(\w+)`/g, (_, name: string) => `--${NAMES[name] ?? name.replace(/[A-Z]/g, "-$&").toLowerCase()}`)
    .replace(/(--\S+) (i8|f8e4m3)\b/g, (_, flag: string, value: string) => `${flag} ${NAMES[value] ?? value}`);
}
