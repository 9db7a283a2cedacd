// Runs cases, such as those of the fault matrix, and prints a line for each: `ok` or `FAIL`, its name, its ranks.

/** A case with one or more sizes of world. */
export interface Case {
  readonly name: string;
  readonly sizes: readonly number[];
  run(size: number): Promise<void>;
}

/** Runs the cases whose names have `filter` in them. Returns how many failed. */
export async function runCases(cases: readonly Case[], filter: string): Promise<number> {
  let failures = 0;
  let passed = 0;
  for (const { name, sizes, run } of cases) {
    if (!name.includes(filter)) continue;
    for (const size of sizes) {
      const start = performance.now();
      try {
        await run(size);
        passed++;
        console.log(`ok    ${name}, ${size} ranks, ${Math.round(performance.now() - start)} ms`);
      } catch (error) {
        failures++;
        console.log(`FAIL  ${name}, ${size} ranks:`, error);
      }
    }
  }
  console.log(`${passed} passed, ${failures} failed`);
  return failures;
}
