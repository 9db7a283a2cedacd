import { UnfitOptions } from "@lockstep/language-model";
import { LockstepError } from "@lockstep/tensor";

/** Errors of the command line, the model folder or the machine that the user can act on: exit code 2. */
const USER_ERRORS = ["UsageError", "ModelError", "UnfitOptions", "SafetensorsError", "BackendUnavailable"];

/** One line for people, which begins with the command's name, and the exit code. */
export function explainFailure(command: string, error: unknown): { line: string; code: number } {
  const culprit = userError(error);
  const shown = culprit ?? error;
  const message = shown instanceof UnfitOptions ? withFlags(shown.problem) : messageOf(shown);
  return { line: `${command}: ${message.replace(/\s*\n\s*/g, " ")}`, code: culprit === undefined ? 1 : 2 };
}

/** The error itself or the one behind it (a rank's, when a world could not start) that the user can act on. */
function userError(error: unknown): LockstepError | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof LockstepError && USER_ERRORS.includes(error._tag)) return error;
  return userError(error.cause);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What the command line calls otherwise than the library. */
const NAMES: Readonly<Record<string, string>> = { capacity: "max-context", i8: "int8", f8e4m3: "fp8" };

/** Names of the library's options, which stand between backticks, as flags: `kvHeads` is --kv-heads. */
export function withFlags(problem: string): string {
  return problem
    .replace(/a `capacity` of at most (\d+)/, "texts of at most $1 tokens (`prompt` and `maxTokens`, or `capacity`)")
    .replace(/`(\w+)`/g, (_, name: string) => `--${NAMES[name] ?? name.replace(/[A-Z]/g, "-$&").toLowerCase()}`)
    .replace(/(--\S+) (i8|f8e4m3)\b/g, (_, flag: string, value: string) => `${flag} ${NAMES[value] ?? value}`);
}
