import { expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { KernelContext } from "./context.ts";
import { openBackend } from "./backends/open-backend.ts";

test("compiles an entry once and counts hits", () => {
  const context = new KernelContext();
  let compiled = 0;
  const get = (key: string): number => context.get(key, () => ++compiled);
  expect([get("a"), get("b"), get("a"), get("a")]).toEqual([1, 2, 1, 1]);
  expect(compiled).toBe(2);
  expect(context.entries).toEqual(["a", "b"]);
  expect(context.hits).toBe(2);
  expect(context.misses).toBe(2);
});

test("an entry that failed to compile is not kept", () => {
  const context = new KernelContext();
  expect(() =>
    context.get("a", () => {
      throw new Error("no");
    }),
  ).toThrow("no");
  expect(context.entries).toEqual([]);
  expect(context.get("a", () => 3)).toBe(3);
});

test("clear forgets everything", () => {
  const context = new KernelContext();
  context.get("a", () => 1);
  context.clear();
  expect(context.entries).toEqual([]);
  expect(context.get("a", () => 2)).toBe(2);
});

for (const name of ["wasm", "webgpu"] as const) {
  test(`a second call compiles nothing, and other dtypes get kernels of their own, on ${name}`, async () => {
    const heap = SharedHeap.create(8 << 20);
    await using backend = await openBackend(name, name === "webgpu" ? { heap, adapter: "software" } : { heap });
    const run = async (dtype: "f32" | "f16", dim: number, value: number): Promise<Float64Array> => {
      const out = Tensor.empty(heap, dtype, [1, 1, dim]).fill(value);
      const lses = Tensor.zeros(heap, "f32", [2, 1, 1]);
      await backend.correctAttnOut({ partialOut: out, lses, rank: 0, out, lse: Tensor.empty(heap, "f32", [1, 1]) });
      return out.toNumbers();
    };
    expect([...(await run("f32", 3, 4))]).toEqual([2, 2, 2]);
    const entries = backend.context.entries.length;
    expect(entries).toBeGreaterThan(0);
    const hits = backend.context.hits;
    expect([...(await run("f32", 3, 6))]).toEqual([3, 3, 3]);
    expect(backend.context.entries.length).toBe(entries);
    expect(backend.context.hits).toBeGreaterThan(hits);
    expect([...(await run("f16", 5, 8))]).toEqual([4, 4, 4, 4, 4]);
    expect(backend.context.entries.length).toBeGreaterThan(entries);
  }, 120_000);
}
