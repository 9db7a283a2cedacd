import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { openGpuDevice } from "../device/gpu-device.ts";
import { BackendClosed, DeviceError } from "../errors.ts";
import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";
import { Random } from "../testing/random.ts";
import { openWebgpuBackend } from "./webgpu-backend.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());

function gpuTensor(operand: Operand): GpuTensor {
  if (operand instanceof GpuTensor) return operand;
  throw new Error("not on the GPU");
}

async function onGpu(source: Tensor): Promise<GpuTensor> {
  const tensor = gpuTensor(backend.empty(source.dtype, source.shape));
  await backend.upload(source, tensor);
  return tensor;
}

async function onHeap(source: Operand): Promise<Tensor> {
  const tensor = Tensor.empty(heap, source.dtype, source.shape);
  await backend.download(source, tensor);
  return tensor;
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => (index * 7) % 101);

describe("upload and download", () => {
  for (const dtype of ["f32", "bf16", "u8"] as const) {
    for (const size of [1, 5, 64, 257]) {
      test(`${size} elements of ${dtype} come back bit for bit`, async () => {
        const source = Tensor.from(heap, dtype, [size], numbers(size));
        const target = await onGpu(source);
        expect((await onHeap(target)).toNumbers()).toEqual(source.toNumbers());
        target.free();
      });
    }
    test(`a part of ${dtype} that begins and ends within words leaves its neighbours alone`, async () => {
      const target = await onGpu(Tensor.from(heap, dtype, [13], numbers(13)));
      await backend.upload(Tensor.from(heap, dtype, [3], [50, 60, 70]), target.slice(0, 5, 8));
      const expected = [...numbers(5), 50, 60, 70, ...numbers(13).slice(8)];
      expect([...(await onHeap(target)).toNumbers()]).toEqual(expected);
      expect([...(await onHeap(target.slice(0, 4, 7))).toNumbers()]).toEqual(expected.slice(4, 7));
    });
  }

  test("strided heap tensors and strided GPU views", async () => {
    const source = Tensor.from(heap, "f16", [6, 4], numbers(24));
    const target = gpuTensor(backend.empty("f16", [4, 6]));
    await backend.upload(source.transpose(0, 1), target);
    const back = Tensor.zeros(heap, "f16", [6, 4]);
    await backend.download(target, back.transpose(0, 1));
    expect(back.toNumbers()).toEqual(source.toNumbers());
    const columns = await onHeap(target.slice(1, 1, 3));
    expect([...columns.toNumbers()]).toEqual([...source.slice(0, 1, 3).transpose(0, 1).toNumbers()]);
  });

  test("fresh tensors are zero", async () => {
    expect([...(await onHeap(backend.empty("i32", [3]))).toNumbers()]).toEqual([0, 0, 0]);
  });
});

describe("ops on GPU operands", () => {
  test("correctAttnOut in place, and from one half of a buffer into the other", async () => {
    const random = new Random(3);
    const out = Tensor.from(heap, "f32", [3, 2, 8], random.normals(48));
    const lses = Tensor.from(heap, "f32", [2, 3, 2], random.normals(12));
    const expected = Tensor.empty(heap, "f32", [3, 2, 8]);
    const lse = Tensor.empty(heap, "f32", [3, 2]);
    await backend.correctAttnOut({ partialOut: out, lses, rank: 1, out: expected, lse });
    const gpuLses = await onGpu(lses);
    const gpuLse = gpuTensor(backend.empty("f32", [3, 2]));

    const inPlace = await onGpu(out);
    await backend.correctAttnOut({ partialOut: inPlace, lses: gpuLses, rank: 1, out: inPlace, lse: gpuLse });
    expect((await onHeap(inPlace)).toNumbers()).toEqual(expected.toNumbers());
    expect((await onHeap(gpuLse)).toNumbers()).toEqual(lse.toNumbers());

    const both = gpuTensor(backend.empty("f32", [6, 2, 8]));
    const [from, to] = [both.slice(0, 0, 3), both.slice(0, 3, 6)];
    await backend.upload(out, from);
    await backend.correctAttnOut({ partialOut: from, lses: gpuLses, rank: 1, out: to, lse: gpuLse });
    expect((await onHeap(to)).toNumbers()).toEqual(expected.toNumbers());
    expect((await onHeap(from)).toNumbers()).toEqual(out.toNumbers());
  });

  test("mergeAttnStates over slices of one tensor, over separate tensors, and mixed with the heap", async () => {
    const random = new Random(4);
    const states = Tensor.from(heap, "bf16", [3, 2, 2, 5], random.normals(60));
    const lses = Tensor.from(heap, "f32", [3, 2, 2], random.normals(12));
    const outs = [0, 1, 2].map((index) => states.select(0, index));
    const lseList = [0, 1, 2].map((index) => lses.select(0, index));
    const expected = Tensor.empty(heap, "f32", [2, 2, 5]);
    await backend.mergeAttnStates({ outs, lses: lseList, out: expected });

    const stacked = await onGpu(Tensor.from(heap, "bf16", [6, 2, 5], states.toNumbers()));
    const slices = [0, 1, 2].map((index) => stacked.slice(0, 2 * index, 2 * index + 2));
    const separate = await Promise.all(outs.map((out) => onGpu(out)));
    const mixed = outs.map((out, index) => (index === 1 ? (separate[1] ?? out) : out));
    for (const operands of [slices, separate, mixed]) {
      const out = Tensor.empty(heap, "f32", [2, 2, 5]);
      await backend.mergeAttnStates({ outs: operands, lses: lseList, out });
      expect(out.toNumbers()).toEqual(expected.toNumbers());
    }
  });

  test("writeKvCache into a view of a larger cache, beside odd 16-bit neighbours", async () => {
    const cache = gpuTensor(backend.empty("f16", [2, 2, 3, 3]));
    await backend.upload(Tensor.zeros(heap, "f16", [2, 2, 3, 3]).fill(9), cache);
    const key = Tensor.from(heap, "f16", [1, 1, 3], [1, 2, 3]);
    await backend.writeKvCache({ key, slotMapping: [1], keyCache: cache.slice(2, 1, 2) });
    const expected = new Array<number>(36).fill(9);
    expected.splice((1 * 3 + 1) * 3, 3, 1, 2, 3);
    expect([...(await onHeap(cache)).toNumbers()]).toEqual(expected);
  });

  test("non-contiguous GPU operands other than caches are refused, and nothing is left behind", async () => {
    const wide = gpuTensor(backend.empty("f32", [2, 4]));
    const out = Tensor.empty(heap, "f32", [1, 2, 2]);
    expect(() => backend.packSeq({ x: wide.slice(1, 0, 2), lengths: [2], out })).toThrow(ArgumentError);
    await backend.packSeq({ x: wide.slice(0, 0, 2), lengths: [1], out: Tensor.empty(heap, "f32", [1, 1, 4]) });
  });

  test("a tensor may be freed right after an op that used it", async () => {
    const x = await onGpu(Tensor.from(heap, "u32", [4, 1], [1, 2, 3, 4]));
    const packed = gpuTensor(backend.empty("u32", [1, 4, 1]));
    await backend.packSeq({ x, lengths: [4], out: packed });
    x.free();
    expect([...(await onHeap(packed)).toNumbers()]).toEqual([1, 2, 3, 4]);
  });

  test("more workgroups than one dimension of a dispatch holds", async () => {
    const batch = 70_000;
    const x = Tensor.from(heap, "u32", [batch, 1], numbers(batch));
    const out = Tensor.empty(heap, "u32", [batch, 1, 1]);
    await backend.packSeq({ x, lengths: new Array<number>(batch).fill(1), out });
    expect(out.toNumbers()).toEqual(x.toNumbers());
  });

  test("calls that overlap in time keep their results apart", async () => {
    const calls = Array.from({ length: 8 }, async (_, call) => {
      const x = Tensor.from(
        heap,
        "f32",
        [3, 2],
        numbers(6).map((value) => value + 1000 * call),
      );
      const out = Tensor.empty(heap, "f32", [1, 3, 2]);
      await backend.packSeq({ x, lengths: [3], out });
      expect(out.toNumbers()).toEqual(x.toNumbers());
    });
    await Promise.all(calls);
  });
});

describe("limits and failures", () => {
  test("a tensor beyond the device's limits is refused", () => {
    expect(() => backend.empty("f32", [2 ** 20, 2 ** 20])).toThrow(ArgumentError);
  });

  test("ops after close throw BackendClosed; close may be repeated", async () => {
    const other = await openWebgpuBackend({ heap, adapter: "software" });
    await other.close();
    await other.close();
    const x = Tensor.zeros(heap, "f32", [1, 1]);
    expect(() => other.packSeq({ x, lengths: [1], out: Tensor.zeros(heap, "f32", [1, 1, 1]) })).toThrow(BackendClosed);
    expect(() => other.empty("f32", [1])).toThrow(BackendClosed);
  });

  test("a caller's device is used and outlives the backend; when it is lost, ops say so", async () => {
    const owner = await openGpuDevice({ adapter: "software" });
    try {
      const { device } = owner;
      const x = Tensor.from(heap, "f32", [2, 1], [3, 4]);
      const out = Tensor.empty(heap, "f32", [1, 2, 1]);
      const first = await openWebgpuBackend({ heap, device });
      await first.packSeq({ x, lengths: [2], out });
      expect([...out.f32]).toEqual([3, 4]);
      await first.close();
      const second = await openWebgpuBackend({ heap, device });
      const kept = second.empty("f32", [2]);
      await second.upload(Tensor.from(heap, "f32", [2], [5, 6]), kept);
      device.destroy();
      await device.lost;
      const back = Tensor.zeros(heap, "f32", [2]);
      expect(await outcomeOf((async () => second.download(kept, back))())).toThrow(DeviceError);
      expect(await outcomeOf((async () => second.download(kept, back))())).toThrow(/lost/);
      expect([...back.f32]).toEqual([0, 0]);
      await second.close();
    } finally {
      await owner.release();
    }
  });
});
