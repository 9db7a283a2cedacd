// `bun run demo`: generates text with a model whose KV cache is sharded over ranks.
import process from "node:process";
import { LockstepError } from "@lockstep/tensor";
import { runExpectations } from "./expect.ts";
import { readExpectations } from "./expectations.ts";
import { openModel } from "./model.ts";
import { HELP, parseOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { generatorOptions, tell } from "./tell.ts";

/** Errors of the command line, the model folder or the machine that the user can act on: exit code 2. */
const USER_ERRORS = ["UsageError", "ModelError", "SafetensorsError", "BackendUnavailable"];

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const progress = new Progress();
  const model = openModel(options.modelFolder);
  for (const warning of model.warnings) process.stderr.write(`demo: ${warning}\n`);
  if (options.expectFile !== undefined) {
    const expectations = readExpectations(options.expectFile, model.config.vocabularySize);
    return (await runExpectations(model, generatorOptions(options), expectations, progress)) ? 0 : 1;
  }
  return tell(model, options, progress);
}

/** One line for people, and the exit code. */
function explain(error: unknown): { line: string; code: number } {
  const culprit = userError(error);
  const shown = culprit ?? error;
  const message = (shown instanceof Error ? shown.message : String(shown)).replace(/\s*\n\s*/g, " ");
  return { line: `demo: ${message}`, code: culprit === undefined ? 1 : 2 };
}

/** The error itself or the one behind it (a rank's, when a world could not start) that the user can act on. */
function userError(error: unknown): LockstepError | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof LockstepError && USER_ERRORS.includes(error._tag)) return error;
  return userError(error.cause);
}

// Whoever reads the output may stop early, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const { line, code } = explain(error);
  process.stderr.write(`${line}\n`);
  process.exitCode = code;
}
