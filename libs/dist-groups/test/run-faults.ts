// Runs the fault matrix outside a test runner, in any runtime: `deno run -A libs/dist-groups/test/run-faults.ts [filter]`.

import process from "node:process";
import { ASYNC_CASES } from "./async-cases.ts";
import { FAULTS } from "./fault-matrix.ts";

const filter = process.argv[2] ?? "";
let failures = 0;
for (const { name, sizes, run } of [...FAULTS, ...ASYNC_CASES]) {
  if (!name.includes(filter)) continue;
  for (const size of sizes) {
    const start = performance.now();
    try {
      await run(size);
      console.log(`ok    ${name}, ${size} ranks, ${Math.round(performance.now() - start)} ms`);
    } catch (error) {
      failures++;
      console.log(`FAIL  ${name}, ${size} ranks:`, error);
    }
  }
}
process.exitCode = failures === 0 ? 0 : 1;
