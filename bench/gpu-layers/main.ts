// `bun run bench:gpu-layers`: a decode step of 32 layers on one GPU, with its operands in the heap (a download after
// every layer) and on the GPU (one, at the end), checked to have the same bits.
import { openWorld } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import { readCommandLine } from "../../scripts/command-line.ts";
import { printTable } from "../print-table.ts";
import type * as program from "./program.ts";
import type { LayersShape } from "./program.ts";

const { values } = readCommandLine({
  name: "bench:gpu-layers",
  does: "Times a decode step of 32 layers on one GPU, with its operands in the heap and on the GPU.",
  options: {
    software: { type: "boolean", default: false, help: "a small one on software Vulkan, to check the bench" },
  },
});
const heads = { queryHeads: 32, kvHeads: 8, headDim: 128, dtype: "f16" } as const;
const shape: LayersShape = values.software
  ? { ...heads, layers: 4, context: 64, steps: 4, adapter: "software" }
  : { ...heads, layers: 32, context: 8192, steps: 200, adapter: "hardware" };

await using world = await openWorld<typeof program>({
  size: 1,
  program: new URL("./program.ts", import.meta.url),
  options: shape,
  heapBytesPerRank: 256 << 20,
  startDeadlineMs: 300_000,
  deadlineMs: 300_000,
});
await world.call("check", []);
const [figures] = await world.call("measure", []);
await world.call("check", []);
if (figures === undefined) throw new Error("the rank gave no figures");
const { layers, queryHeads, kvHeads, headDim, dtype, context } = shape;
const bytes = 2 * context * kvHeads * headDim * DTYPE_BYTES[dtype] * layers;
console.log(
  `${figures.device}; ${layers} layers, Hq${queryHeads} Hkv${kvHeads} D${headDim} ${dtype}, ${context} tokens`,
);
const row = (name: string, microseconds: number): string[] => [
  name,
  `${microseconds.toFixed(0)} us`,
  `${(microseconds / layers).toFixed(1)} us`,
  `${(bytes / microseconds / 1e3).toFixed(0)} GB/s`,
  `${(figures.heap / microseconds).toFixed(2)}`,
];
printTable(
  ["operands", "a step", "a layer", "KV read", "of the heap's"],
  [row("heap", figures.heap), row("GPU", figures.gpu)],
);
