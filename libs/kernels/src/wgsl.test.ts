// The WGSL of each op, run by plain WebGPU with buffers bound as described.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { openReferenceBackend } from "./backends/reference-backend.ts";
import { openGpuDevice } from "./device/gpu-device.ts";
import { testEveryOp } from "./testing/every-op.ts";
import { GpuTensor } from "./gpu-tensor.ts";
import { onBuffers } from "./testing/on-buffers.ts";
import { bufferOperand, type WgslDispatch, type WgslProgram, type WgslTarget, wgslOf } from "./wgsl.ts";
import { ProgramRunner } from "./testing/run-program.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const { device, subgroupWidth, release } = await openGpuDevice({ adapter: "software" });
const runner = new ProgramRunner(device);
const reference = openReferenceBackend({ heap });
let failure: string | undefined;
device.addEventListener("uncapturederror", (event) => {
  failure ??= (event as GPUUncapturedErrorEvent).error.message;
});
afterAll(release);

testEveryOp(heap, reference, async (_, name, args) => {
  const { args: placed, bringBack } = onBuffers(device, args);
  const buffers: Record<string, GPUBuffer> = {};
  for (const [argument, value] of Object.entries(placed) as [string, unknown][]) {
    if (value instanceof GpuTensor) buffers[argument] = value.buffer as GPUBuffer;
    if (!Array.isArray(value)) continue;
    for (const [index, part] of value.entries()) {
      if (part instanceof GpuTensor) buffers[`${argument}[${index}]`] = part.buffer as GPUBuffer;
    }
  }
  runner.run(wgslOf(name, placed, { software: true, subgroupWidth }), buffers);
  await bringBack();
  expect(failure).toBeUndefined();
});

const f32 = (...shape: number[]): GpuTensor => bufferOperand("f32", shape);
const dispatches = ({ steps }: WgslProgram): WgslDispatch[] => steps.filter((step) => step.kind === "dispatch");

test("a program says what it is, in WebGPU's terms", () => {
  const args = { partialOut: f32(2, 3, 8), lses: f32(4, 2, 3), rank: 1, out: f32(2, 3, 8), lse: f32(2, 3) };
  const { steps, scratch } = wgslOf("correctAttnOut", args);
  expect(scratch).toEqual([]);
  const [step] = steps;
  if (steps.length !== 1 || step?.kind !== "dispatch") throw new Error("expected one dispatch");
  expect(step).toMatchObject({
    entryPoint: "correct_attn_out",
    features: [],
    workgroupSize: 256,
    workgroups: [6, 1, 1],
  });
  expect(step.code).toContain("fn correct_attn_out(");
  const range = (argument: string, size: number) => ({ kind: "operand", argument, offset: 0, size }) as const;
  const [params, ...others] = step.bindings;
  expect(others).toEqual([
    { group: 0, binding: 1, name: "lses", type: "read-only-storage", contents: range("lses", 96) },
    { group: 0, binding: 2, name: "lse", type: "storage", contents: range("lse", 32) },
    { group: 0, binding: 3, name: "corrected_data", type: "storage", contents: range("out", 192) },
    { group: 0, binding: 4, name: "out_data", type: "read-only-storage", contents: range("partialOut", 192) },
  ]);
  expect(params).toMatchObject({ binding: 0, name: "params", type: "uniform" });
  if (params?.contents.kind !== "words") throw new Error("expected words");
  const { words, fields = [] } = params.contents;
  const wordOf = (name: string): number | undefined =>
    words[(fields.find((one) => one.name === name)?.offset ?? -4) / 4];
  expect(fields[1]).toEqual({ name: "rank", type: "u32", offset: 4 });
  expect(["rows", "rank", "workgroups", "lseFirst"].map(wordOf)).toEqual([6, 1, 6, 0]);
});

test("equal keys have equal code, and other words for other calls", () => {
  const pack = (rows: number): WgslDispatch | undefined =>
    dispatches(wgslOf("packSeq", { x: f32(rows, 4), lengths: [rows], out: f32(1, rows, 4) }))[0];
  const [small, large] = [pack(3), pack(5)];
  expect(large?.key).toBe(small?.key ?? "");
  expect(large?.code).toBe(small?.code ?? "");
  expect(large?.bindings[0]?.contents).not.toEqual(small?.bindings[0]?.contents as object);
});

/** Attention of one token over a context. */
function attention(keys: number, target: WgslTarget, heads = 8): WgslProgram {
  const blocks = Math.ceil(keys / 16);
  const table = Array.from({ length: blocks }, (_, block) => block);
  const blockTable = Tensor.from(heap, "i32", [1, blocks], table);
  const cache = (): GpuTensor => bufferOperand("f16", [blocks, 16, 2, 64]);
  const operands = {
    query: f32(1, heads, 64),
    keyCache: cache(),
    valueCache: cache(),
    out: f32(1, heads, 64),
    lse: f32(1, heads),
  };
  return wgslOf("partialAttention", { ...operands, blockTable, sequences: [0], positions: [keys - 1] }, target);
}

test("a long context is attended to in splits, which go through scratch memory", () => {
  const { steps, scratch } = attention(4096, {});
  expect(steps.map((step) => step.kind === "dispatch" && step.entryPoint)).toEqual([
    "partial_attention",
    "merge_splits",
  ]);
  expect(scratch).toHaveLength(2);
  const ranges = dispatches({ steps, scratch }).map(({ bindings }) =>
    bindings.flatMap(({ contents }) => (contents.kind === "scratch" ? contents.scratch : [])),
  );
  expect(ranges).toEqual([
    [0, 1],
    [0, 1],
  ]);
});

test("features are enabled for targets that have them alone", () => {
  const features = (target: WgslTarget): readonly string[] => dispatches(attention(4096, target))[0]?.features ?? [];
  expect(features({})).toEqual([]);
  expect(features({ subgroupWidth: 32 })).toEqual(["subgroups"]);
  const limits = { maxComputeWorkgroupStorageSize: 49152, maxComputeInvocationsPerWorkgroup: 1024 };
  const [first] = dispatches(attention(65536, { subgroupWidth: 32, matrixUnits: true, ...limits }, 32));
  expect(first?.entryPoint).toBe("matrix_attention");
  expect(first?.features).toEqual(["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"]);
});

test("what is read of a buffer that is also written is copied first", () => {
  const both = f32(2, 4, 4);
  const [x, out] = [both.slice(0, 0, 1), both.slice(0, 1, 2)];
  const flat = new GpuTensor(x.memory, "f32", [4, 4], undefined, x.elementOffset);
  const { steps, scratch } = wgslOf("packSeq", { x: flat, lengths: [4], out });
  expect(steps.map(({ kind }) => kind)).toEqual(["copy", "dispatch"]);
  expect(scratch).toHaveLength(1);
  const [copy] = steps;
  if (copy?.kind !== "copy") throw new Error("expected a copy");
  expect([copy.from.argument, copy.from.offset, copy.to.scratch, copy.to.offset]).toEqual(["x", 0, 0, 0]);
});

test("nothing to do takes no steps", () => {
  expect(wgslOf("gatherKvCache", { cache: f32(2, 4, 1, 4), slots: [], rows: f32(0, 1, 4) }).steps).toEqual([]);
});

test("what the op refuses is refused, and operands in a heap, and impossible widths", () => {
  const args = { x: f32(3, 4), lengths: [3], out: f32(1, 3, 4) };
  expect(() => wgslOf("packSeq", { ...args, lengths: [4] })).toThrow(/`lengths`/);
  expect(() => wgslOf("packSeq", { ...args, x: Tensor.zeros(heap, "f32", [3, 4]) })).toThrow(/view of a buffer/);
  for (const subgroupWidth of [1, 3, -2, Number.NaN]) {
    expect(() => wgslOf("packSeq", args, { subgroupWidth })).toThrow(ArgumentError);
  }
  expect(() => bufferOperand("f32", [5], { bufferBytes: 16 })).toThrow(ArgumentError);
});
