import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "../backends/open-backend.ts";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";
import { type CallCounts, countCalls } from "../testing/count-calls.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());

/** Counts of the calls that a step makes again and again. */
const calls = ({ submit, writeBuffer, mapAsync, createBuffer }: CallCounts) => ({
  submit,
  writeBuffer,
  mapAsync,
  createBuffer,
});

function numbers(count: number, first: number): Tensor {
  return Tensor.from(
    heap,
    "f32",
    [count],
    Array.from({ length: count }, (_, at) => first + at),
  );
}

test("ops of a batch go up, run and come down together, in their order, on heap and GPU operands", async () => {
  const kept = backend.empty("f32", [1, 3]);
  const [first, second] = [numbers(3, 1), numbers(3, 10)];
  const [up, down] = [Tensor.empty(heap, "f32", [1, 3]), Tensor.empty(heap, "f32", [1, 3])];
  const run = async (): Promise<void> => {
    down.fill(0);
    await backend.batch(() => {
      void backend.packSeq({ x: first, lengths: [3], out: kept });
      void backend.download(kept, up);
      void backend.upload(second.reshape([1, 3]), kept);
      void backend.download(kept, down);
    });
  };
  await run();
  expect(calls(await countCalls(run))).toEqual({ submit: 1, writeBuffer: 1, mapAsync: 1, createBuffer: 0 });
  expect([...up.f32]).toEqual([1, 2, 3]);
  expect([...down.f32]).toEqual([10, 11, 12]);
});

test("a batch without heap results waits for nobody; one within another belongs to it", async () => {
  const kept = backend.empty("f32", [1, 3]);
  const out = Tensor.zeros(heap, "f32", [1, 3]);
  expect(
    backend.batch(() => {
      void backend.packSeq({ x: numbers(3, 5), lengths: [3], out: kept });
    }),
  ).toBeUndefined();
  await backend.batch(() => {
    expect(backend.batch(() => void backend.download(kept, out))).toBeUndefined();
  });
  expect([...out.f32]).toEqual([5, 6, 7]);
});

test("when one throws nothing of it runs, what came before it stays, and the next op works", async () => {
  const kept = backend.empty("f32", [1, 3]);
  void backend.packSeq({ x: numbers(3, 1), lengths: [3], out: kept });
  const out = Tensor.zeros(heap, "f32", [1, 3]);
  expect(() =>
    backend.batch(() => {
      void backend.upload(numbers(3, 90).reshape([1, 3]), kept);
      void backend.packSeq({ x: numbers(3, 80), lengths: [3], out });
      void backend.packSeq({ x: numbers(3, 80), lengths: [4], out });
    }),
  ).toThrow("lengths");
  expect([...out.f32]).toEqual([0, 0, 0]);
  await backend.download(kept, out);
  expect([...out.f32]).toEqual([1, 2, 3]);
});

test("one op that is caught within a batch leaves the others", async () => {
  const outs = [
    Tensor.zeros(heap, "f32", [1, 2]),
    Tensor.zeros(heap, "f32", [1, 2]),
    Tensor.zeros(heap, "f32", [1, 2]),
  ];
  await backend.batch(() => {
    for (const [index, out] of outs.entries()) {
      const op = () => backend.packSeq({ x: numbers(2, index), lengths: [index === 1 ? 3 : 2], out });
      if (index === 1) expect(op).toThrow("lengths");
      else void op();
    }
  });
  expect(outs.map((out) => [...out.f32])).toEqual([
    [0, 1],
    [0, 0],
    [2, 3],
  ]);
});

test("an upload of megabytes within a batch, between a download and an op", async () => {
  const count = (1 << 19) + 3;
  const kept = backend.empty("f32", [count]);
  const [before, after] = [Tensor.empty(heap, "f32", [count]), Tensor.empty(heap, "f32", [1, count])];
  await backend.upload(Tensor.zeros(heap, "f32", [count]), kept);
  await backend.batch(() => {
    void backend.download(kept, before);
    void backend.upload(numbers(count, 1), kept);
    void backend.packSeq({ x: kept, lengths: [count], out: after });
  });
  expect(before.f32.every((value) => value === 0)).toBe(true);
  expect(after.f32.every((value, at) => value === at + 1)).toBe(true);
});

test("large operands go up by buffers that stay mapped: nothing is made for them from the third call on", async () => {
  const count = 1 << 17;
  const out = Tensor.empty(heap, "f32", [1, count]);
  const x = numbers(count, 0);
  const run = async (): Promise<void> => {
    for (let call = 0; call < 2; call++) {
      x.f32.fill(call);
      out.fill(9);
      await backend.packSeq({ x, lengths: [count], out });
      expect(out.f32.every((value) => value === call)).toBe(true);
    }
  };
  await run();
  // A call's map for the next one is counted too.
  expect(calls(await countCalls(run))).toEqual({ submit: 2, writeBuffer: 0, mapAsync: 4, createBuffer: 0 });
});

test.each(["wasm", "reference"] as const)("on %s a batch runs its ops as they come", async (name) => {
  const cpu = await openBackend(name, { heap });
  const out = Tensor.zeros(heap, "f32", [1, 3]);
  const done = cpu.batch(() => {
    void cpu.packSeq({ x: numbers(3, 1), lengths: [3], out });
    expect([...out.f32]).toEqual([1, 2, 3]);
  });
  expect(done).toBeUndefined();
  await cpu.close();
});

test("a large operand of an op that nobody waits for is taken as it was", async () => {
  const count = 1 << 18;
  const kept = backend.empty("f32", [1, count]);
  const x = numbers(count, 0);
  for (const first of [1, 2]) {
    x.f32.fill(first);
    void backend.packSeq({ x, lengths: [count], out: kept });
    x.f32.fill(99);
    const out = Tensor.empty(heap, "f32", [1, count]);
    await backend.download(kept, out);
    expect(out.f32.every((value) => value === first)).toBe(true);
    out.free();
  }
});

test("large operands between small ones, strided ones among them, all find their places", async () => {
  const [large, small] = [1 << 17, 5];
  const strided = numbers(2 * large, 0)
    .reshape([large, 2])
    .select(1, 1);
  const outs = [large, small, large, small].map((count) => Tensor.empty(heap, "f32", [1, count]));
  for (let call = 0; call < 2; call++) {
    for (const out of outs) out.fill(-1);
    await backend.batch(() => {
      for (const [index, out] of outs.entries()) {
        const count = out.dim(1);
        const x = index === 2 ? strided : numbers(count, 1000 * index);
        void backend.packSeq({ x, lengths: [count], out });
      }
    });
    for (const [index, out] of outs.entries()) {
      const right = (at: number): number => (index === 2 ? 2 * at + 1 : 1000 * index + at);
      expect(out.f32.every((value, at) => value === Math.fround(right(at)))).toBe(true);
    }
  }
});

test("an operand of 80 KB, too large to be gathered early and too small for mapped memory", async () => {
  const count = 20_000;
  const out = Tensor.zeros(heap, "f32", [1, count]);
  await backend.packSeq({ x: numbers(count, 1), lengths: [count], out });
  expect(out.f32.every((value, at) => value === at + 1)).toBe(true);
});
