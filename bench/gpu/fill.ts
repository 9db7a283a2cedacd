import { readFileSync } from "node:fs";
import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import type { GpuTensor } from "@lockstep/kernels";
import { float32Bits } from "../../libs/kernels/src/webgpu/float-bits.ts";
import type { Recorder } from "../../libs/kernels/src/webgpu/recorder.ts";
import type { RandomValues } from "./random-values.ts";

const FILL = readFileSync(new URL("./fill.wgsl", import.meta.url), "utf8");
const COUNT = readFileSync(new URL("./count.wgsl", import.meta.url), "utf8");
const THREADS = 256;
const MOST_WORKGROUPS = 8192;
const DATA = "@group(0) @binding(1) var<storage, read_write> data: array<u32>;";

const workgroupsFor = (words: number): number => Math.min(MOST_WORKGROUPS, Math.ceil(words / THREADS));

/** Records the filling of a whole, contiguous tensor with random values. */
export function fillRandom(recorder: Recorder, tensor: GpuTensor, values: RandomValues): void {
  recordFill(recorder, tensor, values.dtype, values.seed, values.scale);
}

/** Records the filling of a whole, contiguous tensor with one word. */
export function fillWord(recorder: Recorder, tensor: GpuTensor, word: number): void {
  recordFill(recorder, tensor, undefined, word, 0);
}

function recordFill(
  recorder: Recorder,
  tensor: GpuTensor,
  dtype: RandomValues["dtype"] | undefined,
  value: number,
  scale: number,
): void {
  const region = recorder.write(tensor);
  const constants = [
    `const THREADS = ${THREADS}u;`,
    `const ELEMENT_BITS = ${dtype === "f32" ? 32 : 16}u;`,
    `const IS_F16 = ${dtype === "f16"};`,
    `const IS_RANDOM = ${dtype !== undefined};`,
  ].join("\n");
  const kernel = recorder.kernel({
    key: `fill ${dtype ?? "word"}`,
    entryPoint: "fill",
    bindings: ["uniform", "write"],
    wgsl: () => [constants, DATA, FILL].join("\n"),
  });
  const words = Math.ceil(tensor.byteLength / 4);
  const params = recorder.uniform([0, words, value, float32Bits(scale)]);
  recorder.dispatch(kernel, [params, region], workgroupsFor(words));
}

/** Records the counting of the words of a whole, contiguous tensor that equal `word`; `count` holds 0. */
export function countWords(recorder: Recorder, tensor: GpuTensor, word: number, count: Tensor): void {
  const kernel = recorder.kernel({
    key: "count words",
    entryPoint: "count_words",
    bindings: ["uniform", "read", "update"],
    wgsl: () => `const THREADS = ${THREADS}u;\n${COUNT}`,
  });
  const words = Math.floor(tensor.byteLength / 4);
  const region = recorder.read(tensor);
  const params = recorder.uniform([region.first / (4 / DTYPE_BYTES[tensor.dtype]), words, word]);
  recorder.dispatch(kernel, [params, region, recorder.update(count)], workgroupsFor(words));
}
