import { ArgumentError, describe } from "@lockstep/tensor";

/** What ranks of generators answer when they are asked what they run. */
export const OWN_PROGRAM = "@lockstep/language-model/rank";

/** Throws ArgumentError unless every rank, in a worker of the caller's, runs the program of generators. */
export async function checkOwnProgram(identify: () => Promise<readonly unknown[]>): Promise<void> {
  const answers: readonly unknown[] = await identify().catch((error: unknown) => {
    if (error instanceof ArgumentError && error.argument === "method") return [undefined];
    throw error;
  });
  if (answers.every((answer) => answer === OWN_PROGRAM)) return;
  const expected = `one whose module calls runGeneratorRank of ${OWN_PROGRAM}`;
  const received = `one that runs another program (it answers ${answers.map(describe).join(", ")})`;
  throw new ArgumentError("Generator.open", "worker", expected, received);
}
