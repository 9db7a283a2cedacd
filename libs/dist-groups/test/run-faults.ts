// Runs the fault matrix, with the library's worker and with ones of its own, the cases of the asynchronous forms and
// those of overlapping calls outside a test runner, in any runtime: `bun run test:faults [FILTER]`, `bun run
// test:faults:deno [FILTER]`. Exit code 1 when one fails.

import process from "node:process";
import { ASYNC_CASES } from "./async-cases.ts";
import { CALL_CASES } from "./call-cases.ts";
import { FAULTS } from "./fault-matrix.ts";
import { OWN_WORKER_CASES } from "./own-worker/own-worker-cases.ts";

const filter = process.argv[2] ?? "";
let failures = 0;
let passed = 0;
for (const { name, sizes, run } of [...FAULTS, ...OWN_WORKER_CASES, ...ASYNC_CASES, ...CALL_CASES]) {
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
process.exitCode = failures === 0 ? 0 : 1;
