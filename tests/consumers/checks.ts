// Runs checks, two at a time, and says a line for each.

/** Something that must hold for consumers. */
export interface Check {
  readonly name: string;
  /** Rejects when it does not hold. Text that it resolves to is printed beside its name, such as a size. */
  run(): Promise<unknown>;
}

/** As many as the cores of the smallest machine that runs them. */
const AT_ONCE = 2;

/** Runs all checks, the first ones first. Prints how each ended. Returns how many passed and failed. */
export async function runChecks(checks: readonly Check[]): Promise<{ passed: number; failed: number }> {
  const waiting = [...checks];
  const counts = { passed: 0, failed: 0 };
  const work = async (): Promise<void> => {
    for (let check = waiting.shift(); check !== undefined; check = waiting.shift()) {
      const started = performance.now();
      const seconds = (): string => `[${((performance.now() - started) / 1000).toFixed(1)} s]`;
      try {
        const detail = await check.run();
        counts.passed++;
        console.log(`(pass) ${check.name} ${typeof detail === "string" ? `(${detail}) ` : ""}${seconds()}`);
      } catch (error) {
        counts.failed++;
        console.log(`(fail) ${check.name} ${seconds()}\n${error instanceof Error ? error.message : String(error)}\n`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return counts;
}

/** What `make` makes, once, for all that ask: a failure too. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
