// `bun tests/checkpoints/main.ts SHAPE FOLDER [--seed 1]`: writes a checkpoint of random weights in the shape of a
// model that people use, in its real layout: llama-3.2-1b takes 2.5 GB, qwen3-0.6b 1.2 GB.
import { parseArgs } from "node:util";
import { isShapeName, SHAPES } from "./shapes.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

const { values, positionals } = parseArgs({
  options: { seed: { type: "string", default: "1" } },
  allowPositionals: true,
});
const [shape, folder] = positionals;
const seed = Number(values.seed);
if (!isShapeName(shape) || folder === undefined || positionals.length > 2 || !Number.isSafeInteger(seed)) {
  console.error(`checkpoints: give a shape of ${Object.keys(SHAPES).join(", ")}, a folder, and --seed a whole number`);
  process.exit(2);
}
const started = performance.now();
writeCheckpoint(folder, SHAPES[shape], { seed });
console.log(`${shape} written to ${folder} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
