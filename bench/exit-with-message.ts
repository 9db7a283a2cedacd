import { LockstepError } from "@lockstep/tensor";

/**
 * Ends a bench that cannot run here with what the error says, which tells what to do; others are thrown on.
 * @param name what the bench is started by, as bench:gpu
 */
export function exitWithMessage(name: string, error: unknown): never {
  if (!(error instanceof LockstepError)) throw error;
  console.error(`${name}: ${error.message}`);
  process.exit(2);
}
