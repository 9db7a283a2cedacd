// What comes down as it lies in a GPU tensor: one copy, to the memory that the host maps, in the order of the commands.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type DType, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import { outcomeOf } from "../../../../tests/outcome-of.ts";
import { openBackend } from "../backends/open-backend.ts";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";
import { openGpuDevice } from "../device/gpu-device.ts";
import { GpuTensor } from "../gpu-tensor.ts";
import { countCalls } from "../testing/count-calls.ts";
import { countCopies } from "../testing/count-copies.ts";
import { bufferOfBytes } from "../testing/gpu-bytes.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const caller = await openGpuDevice({ adapter: "software" });
const onOwn = await openWebgpuBackend({ heap, adapter: "software" });
const onCallers = await openBackend("webgpu", { heap, device: caller.device });
afterAll(async () => {
  await onOwn.close();
  await onCallers.close();
  await caller.release();
});

const READBACK = "lockstep readback";
const RESULT = "lockstep result";

const numbers = (count: number, first: number): number[] => Array.from({ length: count }, (_, at) => first + at);
const row = (count: number, first: number): Tensor => Tensor.from(heap, "f32", [1, count], numbers(count, first));
const zeros = (count: number): Tensor => Tensor.zeros(heap, "f32", [1, count]);

/** A GPU tensor of numbers in a buffer of its own, of the caller's device or else of the backend's. */
async function onGpu(backend: typeof onOwn, dtype: DType, shape: readonly number[], first = 0): Promise<GpuTensor> {
  const size = shape.reduce((product, dim) => product * dim, 1);
  const source = Tensor.from(heap, dtype, shape, numbers(size, first));
  if (backend === onCallers) {
    const bytes = new Uint8Array(source.heap.buffer, source.byteOffset, source.byteLength);
    return GpuTensor.wrap(bufferOfBytes(caller.device, new Uint8Array(bytes)), dtype, shape);
  }
  const tensor = backend.empty(dtype, shape);
  if (!(tensor instanceof GpuTensor)) throw new Error("not on the GPU");
  await backend.upload(source, tensor);
  return tensor;
}

describe.each([
  ["the backend's", onOwn],
  ["a caller's", onCallers],
] as const)("on %s device", (_, backend) => {
  test("a download is one copy, and nothing is made for it once it is warm", async () => {
    const kept = await onGpu(backend, "f32", [1, 3000], 5);
    const out = zeros(3000);
    const run = async (): Promise<void> => backend.download(kept, out);
    await run();
    out.fill(0);
    const copies = await countCopies(run);
    expect(copies.map(({ to }) => to)).toEqual([READBACK]);
    expect(copies[0]?.bytes).toBe(out.byteLength);
    expect([...out.f32]).toEqual(numbers(3000, 5));
    const calls = await countCalls(run);
    expect(calls).toMatchObject({ submit: 1, mapAsync: 1, writeBuffer: 0, createBuffer: 0, createBindGroup: 0 });
  });

  test("each has what its source held between the commands before and behind it, beside results", async () => {
    const kept = await onGpu(backend, "f32", [1, 70], 1);
    const other = await onGpu(backend, "f32", [1, 200], 400);
    const downs = [70, 70, 200, 70, 200].map(zeros);
    const results = [70, 300].map(zeros);
    const [down0 = zeros(1), down1 = down0, down2 = down0, down3 = down0, down4 = down0] = downs;
    const [result0 = down0, result1 = down0] = results;
    const run = async (): Promise<void> => {
      for (const tensor of [...downs, ...results]) tensor.fill(-1);
      await backend.batch(() => {
        void backend.upload(row(70, 1), kept);
        void backend.download(kept, down0);
        void backend.packSeq({ x: row(70, 100).reshape([70]), lengths: [70], out: kept });
        void backend.packSeq({ x: new GpuTensor(kept.memory, "f32", [70]), lengths: [70], out: result0 });
        void backend.download(kept, down1);
        void backend.download(other, down2);
        void backend.upload(row(70, 200), kept);
        void backend.packSeq({ x: row(300, 900).reshape([300]), lengths: [300], out: result1 });
        void backend.download(kept, down3);
        void backend.download(other, down4);
      });
    };
    for (let round = 0; round < 2; round++) {
      await run();
      const firsts = [1, 100, 400, 200, 400];
      expect(downs.map((tensor) => [...tensor.f32])).toEqual(
        downs.map((tensor, index) => numbers(tensor.size, firsts[index] ?? 0)),
      );
      expect(results.map((tensor) => [...tensor.f32])).toEqual([numbers(70, 100), numbers(300, 900)]);
    }
    const down = (await countCopies(run)).filter(({ from, to }) => to === READBACK || to === RESULT || from === RESULT);
    // Results of kernels come down together, at last.
    expect(down.map(({ from, to }) => [from === RESULT, to])).toEqual([
      ...downs.map(() => [false, READBACK]),
      [true, READBACK],
    ]);
    expect(await countCalls(run)).toMatchObject({ submit: 1, mapAsync: 1, createBuffer: 0, createBindGroup: 0 });
  });

  test.each(["f32", "f16", "u8"] as const)("views of %s of any strides, which start within words", async (dtype) => {
    const whole = await onGpu(backend, dtype, [5, 45], 1);
    const host = Tensor.from(heap, dtype, [5, 45], numbers(225, 1));
    const turned = new GpuTensor(whole.memory, dtype, [4, 5], [1, 45], 7);
    const views: readonly (readonly [GpuTensor, Tensor])[] = [
      [whole.slice(1, 3, 4), host.slice(1, 3, 4)],
      [whole.slice(0, 2, 5).slice(1, 1, 44), host.slice(0, 2, 5).slice(1, 1, 44)],
      [turned, host.transpose(0, 1).slice(0, 7, 11)],
      [whole.slice(0, 4, 5).slice(1, 44, 45), host.slice(0, 4, 5).slice(1, 44, 45)],
    ];
    const targets = views.map(([{ shape }]) => Tensor.zeros(heap, dtype, shape));
    const result = zeros(9);
    await backend.batch(() => {
      void backend.packSeq({ x: row(9, 3).reshape([9]), lengths: [9], out: result });
      for (const [index, [view]] of views.entries()) void backend.download(view, targets[index] ?? result);
    });
    expect(targets.map((target) => [...target.toNumbers()])).toEqual(views.map(([, view]) => [...view.toNumbers()]));
    expect([...result.f32]).toEqual(numbers(9, 3));
  });

  test("what a batch that throws, or an op within one, recorded does not come down", async () => {
    const kept = await onGpu(backend, "f32", [1, 50], 1);
    const outs = [zeros(50), zeros(50), zeros(50)];
    const [first = zeros(1), second = first, third = first] = outs;
    const lost = await countCopies(async () => {
      expect(() =>
        backend.batch(() => {
          void backend.download(kept, first);
          throw new RangeError("no");
        }),
      ).toThrow(RangeError);
    });
    expect(lost).toEqual([]);
    const copies = await countCopies(async () => {
      await backend.batch(() => {
        void backend.download(kept, second);
        const inner = (): void => {
          void backend.download(kept, first);
          throw new RangeError("no");
        };
        expect(() => backend.batch(inner)).toThrow(RangeError);
        void backend.download(kept, third);
      });
    });
    expect(copies.map(({ to }) => to)).toEqual([READBACK, READBACK]);
    expect(outs.map((tensor) => [...tensor.f32])).toEqual([new Array(50).fill(0), numbers(50, 1), numbers(50, 1)]);
  });

  test("a target that is freed meanwhile is not written; a source that is freed is brought down before", async () => {
    const kept = await onGpu(backend, "f32", [1, 50], 1);
    const [freed, out] = [zeros(50), zeros(50)];
    const done = backend.batch(() => {
      void backend.download(kept, freed);
      void backend.download(kept, out);
      if (backend === onOwn) kept.free();
    });
    freed.free();
    const other = zeros(50);
    expect(other.byteOffset).toBe(freed.byteOffset);
    expect(await outcomeOf(done ?? Promise.resolve())).toThrow(UseAfterFree);
    expect([...other.f32]).toEqual(new Array(50).fill(0));
    expect([...out.f32]).toEqual(numbers(50, 1));
  });
});
