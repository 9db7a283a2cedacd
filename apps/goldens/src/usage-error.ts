/** The command line asked for something that cannot be: exit code 2 and this one line, after the program's name. */
export class UsageError extends Error {
  override readonly name = "UsageError";

  /**
   * @param argument an option, or what stands beside options
   * @param expected what it must be, @param received what it is
   */
  constructor(argument: string, expected: string, received: string, advice = "") {
    super(`${argument} must be ${expected}, but is ${received}.${advice === "" ? "" : ` ${advice}`}`);
  }
}
