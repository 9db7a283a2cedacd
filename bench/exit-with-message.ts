import { LockstepError } from "@lockstep/tensor";

/** Ends a bench that cannot run here with what the error says, which tells what to do; others are thrown on. */
export function exitWithMessage(error: unknown): never {
  if (!(error instanceof LockstepError)) throw error;
  console.error(`bench: ${error.message}`);
  process.exit(2);
}
