// `bun run bench`: collectives, long contexts, the cost of a layer, decoding and what its steps are made of, each with
// its ceiling or peer timed in the same run. Ops have benches of their own: `bun run bench:cpu` and `bun run
// bench:gpu`.
import { availableParallelism, cpus } from "node:os";
import { readCommandLine, refuseCommand } from "../scripts/command-line.ts";
import { benchCollectives } from "./collectives.ts";
import { benchDecode } from "./decode.ts";
import { benchLayerOverhead } from "./layer-overhead.ts";
import { benchLongContext } from "./long-context.ts";
import { benchMillionTokens } from "./million-tokens.ts";
import { benchOverlap } from "./overlap.ts";
import { benchStepProfile } from "./step-profile/step-profile.ts";
import { benchWorldInvariantAttention } from "./world-invariant-attention.ts";
import { benchWorldInvariantText } from "./world-invariant-text.ts";

const sections: ReadonlyMap<string, () => Promise<void>> = new Map([
  [
    "collectives",
    async () => {
      for (const ranks of [2, 4]) await benchCollectives(ranks);
    },
  ],
  ["long-context", benchLongContext],
  ["million-tokens", benchMillionTokens],
  ["layer-overhead", benchLayerOverhead],
  ["overlap", benchOverlap],
  ["decode", benchDecode],
  ["world-invariant-attention", benchWorldInvariantAttention],
  ["world-invariant-text", benchWorldInvariantText],
  ["step-profile", benchStepProfile],
]);

const names = [...sections.keys()].join(", ");
const { values } = readCommandLine({
  name: "bench",
  does: "Times collectives, long contexts, the cost of a layer, decoding and what its steps are made of.",
  options: { only: { type: "string", takes: "PART", help: `one of ${names}` } },
});
if (values.only !== undefined && !sections.has(values.only)) {
  refuseCommand("bench", `--only must be one of ${names}, but is ${values.only}`);
}
console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores`);
for (const [name, run] of sections) if (values.only === undefined || values.only === name) await run();
