// `bun bench/memories.ts`: what several WebAssembly memories cost: copies between two, loads from a kernel's second
// one, and a kernel over each of many. It is where the choices in docs/memory.md come from. Sums and copies are
// checked.
import { availableParallelism, cpus } from "node:os";
import { wasmCode } from "@lockstep/tensor";
import { readCommandLine } from "../scripts/command-line.ts";
import { LAYERS_WASM } from "../libs/language-model/src/layers/layers.wasm.ts";
import { printTable } from "./print-table.ts";
import { formatSeconds, medianSeconds } from "./timing.ts";

const PAGES = 65535;
const KIB = 1024;
const START = 1024;
/** Memories of the last table: Bun gives eight of them guard pages. */
const MEMORIES = 10;
const [ROWS, COLUMNS] = [1024, 2048];

/**
 * (module
 *   (import "env" "first" (memory $a 65535 65535 shared)) (import "env" "second" (memory $b 65535 65535 shared))
 *   (func (export "sum") (param $p i32) (param $end i32) (result f32) ...)   two f32x4 accumulators over $a, or over $b
 *   (func (export "copy") (param $to i32) (param $from i32) (param $n i32)
 *     (memory.copy $b $a (local.get $to) (local.get $from) (local.get $n))))
 */
const MODULES = [
  "AGFzbQEAAAABDQJgAn9/AX1gA39/fwACJgIDZW52BWZpcnN0AgP//wP//wMDZW52BnNlY29uZAID//8D//8DAwMCAAEHDgIDc3VtAAAEY29weQAB" +
    "CkgCOQECewNAIAIgAP0ABAD95AEhAiADIAD9AAQQ/eQBIQMgAEEgaiEAIAAgAUkNAAsgAiAD/eQB/R8ACwwAIAAgASAC/AoBAAs=",
  "AGFzbQEAAAABDQJgAn9/AX1gA39/fwACJgIDZW52BWZpcnN0AgP//wP//wMDZW52BnNlY29uZAID//8D//8DAwMCAAEHDgIDc3VtAAAEY29weQAB" +
    "CkoCOwECewNAIAIgAP0ARAEA/eQBIQIgAyAA/QBEARD95AEhAyAAQSBqIQAgACABSQ0ACyACIAP95AH9HwALDAAgACABIAL8CgEACw==",
] as const;

interface Exports {
  sum(from: number, end: number): number;
  copy(to: number, from: number, bytes: number): void;
}

interface Layers {
  linearF32(x: number, weight: number, y: number, tokens: number, outs: number, ins: number): void;
}

function memory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
}

function instantiate(code: Uint8Array<ArrayBuffer>, env: WebAssembly.ModuleImports): WebAssembly.Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(code), { env }).exports;
}

readCommandLine({ name: "bench/memories.ts", does: "Times what several WebAssembly memories cost.", options: {} });
console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores`);
const [first, second] = [memory(), memory()];
const [overFirst, overSecond] = MODULES.map((text) =>
  instantiate(new Uint8Array(Buffer.from(text, "base64")), { first, second }),
) as unknown as readonly [Exports, Exports];
for (const { buffer } of [first, second]) new Float32Array(buffer, START, 16 * KIB * KIB).fill(1);

const copies: string[][] = [];
for (const bytes of [4 * KIB, 32 * KIB, 128 * KIB]) {
  const [from, to] = [
    new Float32Array(first.buffer, START, bytes / 4),
    new Float32Array(second.buffer, START, bytes / 4),
  ];
  from.fill(bytes);
  const bySet = await medianSeconds(() => to.set(from));
  if (to.at(-1) !== bytes) throw new Error(`set left ${to.at(-1)}, not ${bytes}`);
  to.fill(0);
  const byMemory = await medianSeconds(() => overFirst.copy(START, START, bytes));
  if (to.at(-1) !== bytes) throw new Error(`memory.copy left ${to.at(-1)}, not ${bytes}`);
  for (const view of [from, to]) view.fill(1);
  copies.push([`${bytes / KIB} KiB`, formatSeconds(bySet), formatSeconds(byMemory)]);
}
console.log("\nCopies from one memory to another");
printTable(["bytes", "TypedArray.set", "memory.copy"], copies);

const loads: string[][] = [];
for (const bytes of [16 * KIB, 64 * KIB * KIB]) {
  const times: number[] = [];
  for (const { sum } of [overFirst, overSecond]) {
    if (sum(START, START + bytes) !== bytes / 16) throw new Error(`a sum of ones over ${bytes} bytes is wrong`);
    times.push(await medianSeconds(() => void sum(START, START + bytes)));
  }
  loads.push([`${bytes / KIB} KiB`, ...times.map(formatSeconds)]);
}
console.log("\nA kernel that sums, over a module's first memory and over its second");
printTable(["bytes", "first", "second"], loads);

const layers = wasmCode(LAYERS_WASM);
const kernels: string[][] = [];
const kept = [first, second];
for (let count = 1; count <= MEMORIES; count++) {
  const own = kept[count - 1] ?? memory();
  kept[count - 1] = own;
  const { linearF32 } = instantiate(layers, { memory: own }) as unknown as Layers;
  const [x, y] = [32 * KIB * KIB, 33 * KIB * KIB];
  new Float32Array(own.buffer, START, ROWS * COLUMNS).fill(1);
  new Float32Array(own.buffer, x, COLUMNS).fill(1);
  const seconds = await medianSeconds(() => linearF32(x, START, y, 1, ROWS, COLUMNS));
  const out = new Float32Array(own.buffer, y, ROWS);
  if (out.some((value) => value !== COLUMNS)) throw new Error(`memory ${count}: a product of ones is wrong`);
  kernels.push([`${count}`, formatSeconds(seconds)]);
}
console.log(
  `\nMatrix-vector product of ${(ROWS * COLUMNS * 4) / KIB / KIB} MiB over each memory of this process in turn`,
);
printTable(["memory", "time"], kernels);
