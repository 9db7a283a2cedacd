// Runs the fault matrix, with the library's worker and with ones of its own, the cases of the asynchronous forms and
// those of overlapping calls outside a test runner, in any runtime: `bun run test:faults [FILTER]`, `bun run
// test:faults:deno [FILTER]`. Exit code 1 when one fails.

import process from "node:process";
import { ASYNC_CASES } from "./async-cases.ts";
import { CALL_CASES } from "./call-cases.ts";
import { FAULTS } from "./fault-matrix.ts";
import { OWN_WORKER_CASES } from "./own-worker/own-worker-cases.ts";
import { runCases } from "./run-cases.ts";

const cases = [...FAULTS, ...OWN_WORKER_CASES, ...ASYNC_CASES, ...CALL_CASES];
process.exitCode = (await runCases(cases, process.argv[2] ?? "")) === 0 ? 0 : 1;
