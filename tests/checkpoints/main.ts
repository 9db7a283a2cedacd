// `bun tests/checkpoints/main.ts SHAPE FOLDER [--seed 1]`: writes a checkpoint of random weights in the shape of a
// model that people use, in its real layout: llama-3.2-1b takes 2.5 GB, qwen3-0.6b 1.2 GB.
import { readCommandLine, refuseCommand, wholeNumber } from "../../scripts/command-line.ts";
import { isShapeName, SHAPES } from "./shapes.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

const NAME = "tests/checkpoints/main.ts";
const { values, positionals } = readCommandLine({
  name: NAME,
  does: "Writes a checkpoint of random weights in the shape of a model that people use.",
  options: { seed: { type: "string", default: "1", takes: "N", help: "what the weights follow from" } },
  operands: "SHAPE FOLDER",
});
const [shape, folder] = positionals;
const seed = wholeNumber(NAME, "seed", values.seed, 0);
if (!isShapeName(shape) || folder === undefined || positionals.length > 2) {
  refuseCommand(NAME, `give a shape of ${Object.keys(SHAPES).join(", ")}, and a folder`);
}
const started = performance.now();
writeCheckpoint(folder, SHAPES[shape], { seed });
console.log(`${shape} written to ${folder} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
