// `bun run soak [--collectives 1000000] [--ranks 8] [--seed 1]` (or `deno run -A` of this file): mixed collectives of
// random sizes, dtypes and strides over interleaved groups, every element of every result checked. Exit code 1 when one
// is wrong.

import process from "node:process";
import { readCommandLine, wholeNumber } from "../../../../scripts/command-line.ts";
import { openWorld } from "../../src/index.ts";
import { partitions } from "./schedule.ts";

const STEPS_PER_CALL = 10_000;

const { values } = readCommandLine({
  name: "soak",
  does: "Mixes collectives of random sizes, dtypes and strides over interleaved groups, and checks every element.",
  options: {
    collectives: { type: "string", default: "1000000", takes: "N", help: "how many" },
    ranks: { type: "string", default: "8", takes: "N", help: "number of ranks" },
    seed: { type: "string", default: "1", takes: "N", help: "what the random choices follow from" },
  },
});
const collectives = wholeNumber("soak", "collectives", values.collectives, 1);
const ranks = wholeNumber("soak", "ranks", values.ranks, 1);
const seed = wholeNumber("soak", "seed", values.seed, 0);
const groups = partitions(ranks);
const names = ["world", ...Object.keys(groups)];
const started = performance.now();
let elements = 0;
try {
  await using world = await openWorld<typeof import("./soak-program.ts")>({
    size: ranks,
    program: new URL("./soak-program.ts", import.meta.url),
    groups,
    heapBytesPerRank: 64 << 20,
  });
  for (let first = 0; first < collectives; first += STEPS_PER_CALL) {
    const steps = Math.min(STEPS_PER_CALL, collectives - first);
    const reports = await world.call("soak", [seed, first, steps, names], { deadlineMs: 300_000 });
    elements += reports.reduce((sum, { elementsChecked }) => sum + elementsChecked, 0);
    if ((first / STEPS_PER_CALL) % 10 === 9) {
      const seconds = ((performance.now() - started) / 1e3).toFixed(0);
      console.log(`${first + steps} collectives, ${elements} elements checked, ${seconds} s`);
    }
  }
} catch (error) {
  console.error(`soak: FAILED: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
const seconds = ((performance.now() - started) / 1e3).toFixed(1);
console.log(
  `soak: ${collectives} collectives on each of ${ranks} ranks over ${names.length} partitions, ` +
    `${elements} elements checked, none wrong, ${seconds} s`,
);
