// A short run of every fuzzer, always of the same cases. `bun run fuzz` runs others.
import { setDefaultTimeout, test } from "bun:test";
import { FUZZ_TARGETS } from "./targets.ts";

setDefaultTimeout(600_000);

const CASES: Readonly<Record<string, number>> = { attention: 60, arguments: 1500, files: 60 };

test.each(Object.keys(FUZZ_TARGETS))("the fuzzer of %s finds nothing", async (name) => {
  const target = FUZZ_TARGETS[name]?.();
  if (target === undefined) throw new Error(`no target ${name}`);
  try {
    for (let seed = 0; seed < (CASES[name] ?? 10); seed++) await target.run(seed);
  } finally {
    await target.close();
  }
});
