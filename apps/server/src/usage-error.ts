/** The command line asked for something that cannot be: exit code 2 and this one line. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
