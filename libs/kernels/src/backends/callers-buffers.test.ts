// Ops over buffers of a caller's, on a device of the caller's.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import { COPY_SRC, MAP_READ, STORAGE } from "../device/buffer-usage.ts";
import { openGpuDevice } from "../device/gpu-device.ts";
import { DeviceError } from "../errors.ts";
import { GpuTensor } from "../gpu-tensor.ts";
import type { OfEveryOp } from "../ops/op-table.ts";
import { testEveryOp } from "../testing/every-op.ts";
import { bufferOfBytes, bytesOfBuffer } from "../testing/gpu-bytes.ts";
import { onBuffers } from "../testing/on-buffers.ts";
import type { Completion, KernelBackend } from "./backend.ts";
import { openBackend } from "./open-backend.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(128 << 20);
const caller = await openGpuDevice({ adapter: "software" });
const { device } = caller;
const backend = await openBackend("webgpu", { heap, device });
afterAll(async () => {
  await backend.close();
  await caller.release();
});

testEveryOp(heap, backend, async (on, name, args) => {
  const { args: placed, bringBack } = onBuffers(device, args);
  const ops: OfEveryOp<Completion> = on;
  const done = ops[name](placed);
  expect(done).toBeUndefined();
  await bringBack();
});

const floats = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const bufferOf = (values: readonly number[], usage?: number): GPUBuffer =>
  bufferOfBytes(device, floats(...values), usage);
const valuesOf = async (buffer: GPUBuffer, of = device): Promise<number[]> => [
  ...new Float32Array((await bytesOfBuffer(of, buffer)).buffer),
];
/** The caller's own command: copies the start of a buffer to another. */
function copy(from: GPUBuffer, to: GPUBuffer, bytes: number): void {
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
  device.queue.submit([encoder.finish()]);
}

test("what the caller submits before and after an op runs before and after it", async () => {
  const [x, packed, kept] = [bufferOf([0, 0, 0, 0]), bufferOf([9, 9, 9, 9]), bufferOf([8, 8, 8, 8])];
  const seen: number[][] = [];
  for (let round = 1; round <= 3; round++) {
    const next = bufferOf([1, 2, 3, 4].map((value) => value * round));
    copy(next, x, 16);
    void backend.packSeq({
      x: GpuTensor.wrap(x, "f32", [4, 1]),
      lengths: [4],
      out: GpuTensor.wrap(packed, "f32", [1, 4, 1]),
    });
    copy(packed, kept, 16);
    copy(bufferOf([7, 7, 7, 7]), packed, 16);
    copy(bufferOf([7, 7, 7, 7]), x, 16);
    seen.push(await valuesOf(kept));
  }
  expect(seen).toEqual([1, 2, 3].map((round) => [1, 2, 3, 4].map((value) => value * round)));
  expect(await valuesOf(packed)).toEqual([7, 7, 7, 7]);
});

test("buffers and device stay the caller's when views are freed and the backend is closed", async () => {
  const own = await openBackend("webgpu", { heap, device });
  const [x, packed] = [bufferOf([1, 2, 3, 4]), bufferOf([0, 0, 0, 0])];
  const view = GpuTensor.wrap(x, "f32", [4, 1], { device });
  const part = view.slice(0, 1, 3);
  const out = GpuTensor.wrap(packed, "f32", [1, 4, 1]);
  void own.packSeq({ x: view, lengths: [4], out });
  view.free();
  expect([view.isFreed, part.isFreed, out.isFreed]).toEqual([true, true, false]);
  expect(() => own.packSeq({ x: part, lengths: [2], out: out.slice(1, 0, 2) })).toThrow(UseAfterFree);
  void own.packSeq({
    x: GpuTensor.wrap(x, "f32", [2, 2]).slice(0, 1, 2),
    lengths: [1],
    out: GpuTensor.wrap(packed, "f32", [1, 1, 2]),
  });
  await own.close();
  expect(out.isFreed).toBe(false);
  expect([await valuesOf(x), await valuesOf(packed)]).toEqual([
    [1, 2, 3, 4],
    [3, 4, 3, 4],
  ]);
  copy(packed, x, 8);
  expect(await valuesOf(x)).toEqual([3, 4, 3, 4]);
});

test("usage is asked for where it is needed, by name", async () => {
  expect(() => GpuTensor.wrap(bufferOf([1], COPY_SRC), "f32", [1])).toThrow(/`buffer` must be of usage .*STORAGE/);
  expect(() => GpuTensor.wrap(bufferOf([1], MAP_READ), "f32", [1])).toThrow(ArgumentError);
  const bare = device.createBuffer({ size: 16, usage: STORAGE });
  const view = GpuTensor.wrap(bare, "f32", [4]);
  const onHeap = Tensor.from(heap, "f32", [4], [1, 2, 3, 4]);
  expect(() => backend.upload(onHeap, view)).toThrow(/`target` must be in a buffer of usage GPUBufferUsage.COPY_DST/);
  expect(() => backend.batch(() => void backend.upload(onHeap, view))).toThrow(/COPY_DST/);
  expect(() => backend.download(view, onHeap)).toThrow(/`source` must be in a buffer of usage GPUBufferUsage.COPY_SRC/);
  const x = bufferOf([1, 2, 3, 4]);
  void backend.packSeq({
    x: GpuTensor.wrap(x, "f32", [4, 1]),
    lengths: [4],
    out: GpuTensor.wrap(bare, "f32", [1, 4, 1]),
  });
  const packed = Tensor.zeros(heap, "f32", [1, 4, 1]);
  await backend.packSeq({ x: GpuTensor.wrap(bare, "f32", [4, 1]), lengths: [4], out: packed });
  expect([...packed.f32]).toEqual([1, 2, 3, 4]);
  expect([...onHeap.f32]).toEqual([1, 2, 3, 4]);
});

test("one part of a buffer goes to another where it may be copied, and overlapping parts are refused", async () => {
  const values = Array.from({ length: 128 }, (_, at) => at);
  const parts = (usage?: number) => {
    const buffer = bufferOf(values, usage);
    return {
      buffer,
      x: GpuTensor.wrap(buffer, "f32", [4, 1]),
      out: GpuTensor.wrap(buffer, "f32", [1, 4, 1], { elementOffset: 64 }),
      over: GpuTensor.wrap(buffer, "f32", [1, 4, 1], { elementOffset: 3 }),
    };
  };
  const { buffer, x, out, over } = parts();
  await backend.packSeq({ x, lengths: [4], out });
  expect((await valuesOf(buffer)).slice(63, 69)).toEqual([63, 0, 1, 2, 3, 68]);
  expect(() => backend.packSeq({ x, lengths: [4], out: over })).toThrow(ArgumentError);
  const uncopied = parts(STORAGE);
  expect(() => backend.packSeq({ x: uncopied.x, lengths: [4], out: uncopied.out })).toThrow(/COPY_SRC/);
});

test("two results in one buffer lie in different blocks of 256 bytes, or are refused", async () => {
  const results = bufferOf(new Array<number>(128).fill(0));
  const partialOut = GpuTensor.wrap(bufferOf([1, 2]), "f32", [1, 1, 2]);
  const lses = GpuTensor.wrap(bufferOf([0]), "f32", [1, 1, 1]);
  const run = (at: number): Completion =>
    backend.correctAttnOut({
      partialOut,
      lses,
      rank: 0,
      out: GpuTensor.wrap(results, "f32", [1, 1, 2]),
      lse: GpuTensor.wrap(results, "f32", [1, 1], { elementOffset: at }),
    });
  expect(() => run(2)).toThrow(/in blocks of 256 bytes that differ/);
  await run(64);
  expect((await valuesOf(results)).slice(0, 2)).toEqual([1, 2]);
});

test("views beyond a buffer, and what is none, are refused", () => {
  const four = bufferOf([1, 2, 3, 4]);
  const wrap = (...args: unknown[]): unknown => Reflect.apply(GpuTensor.wrap, GpuTensor, args);
  for (const args of [
    [four, "f32", [5]],
    [four, "f32", [4], { elementOffset: 1 }],
    [four, "f32", [2], { strides: [4] }],
    [four, "f32", [4], { strides: [-1] }],
    [four, "f32", [4], { elementOffset: -1 }],
    [four, "f64", [1]],
    [null, "f32", [1]],
    [{ size: 4 }, "f32", [1]],
    [four, "f32", [1], { device: 7 }],
    [device.createBuffer({ size: 5, usage: STORAGE }), "u8", [5]],
    [device.createBuffer({ size: 4, usage: STORAGE }), "f32", [0]],
  ]) {
    expect(() => wrap(...args)).toThrow(ArgumentError);
  }
});

test("a buffer of another device is refused when that is known, and else once the device says so", async () => {
  const other = await openGpuDevice({ adapter: "software" });
  const foreign = bufferOfBytes(other.device, floats(1, 2, 3, 4));
  const out = Tensor.zeros(heap, "f32", [1, 4, 1]);
  const pack = (x: GpuTensor): Completion => backend.packSeq({ x, lengths: [4], out });
  const unknown = GpuTensor.wrap(foreign, "f32", [4, 1]);
  for (let call = 0; call < 2; call++) expect(await outcomeOf((async () => pack(unknown))())).toThrow(DeviceError);
  const known = GpuTensor.wrap(foreign, "f32", [4, 1], { device: other.device });
  expect(() => pack(known)).toThrow(/one of this backend's device/);
  expect([...out.f32]).toEqual([0, 0, 0, 0]);
  await pack(GpuTensor.wrap(bufferOf([1, 2, 3, 4]), "f32", [4, 1]));
  expect([...out.f32]).toEqual([1, 2, 3, 4]);
  await other.release();
});

test("a buffer that the caller has destroyed is an error of the device, however often it was used before", async () => {
  const x = bufferOf([1, 2, 3, 4]);
  const out = Tensor.zeros(heap, "f32", [1, 4, 1]);
  const pack = async (on: KernelBackend): Promise<void> =>
    on.packSeq({ x: GpuTensor.wrap(x, "f32", [4, 1]), lengths: [4], out });
  await pack(backend);
  await pack(backend);
  x.destroy();
  out.fill(0);
  expect(await outcomeOf(pack(backend))).toThrow(DeviceError);
  expect([...out.f32]).toEqual([0, 0, 0, 0]);
});
