import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, HeapExhausted, SharedHeap, Tensor } from "@lockstep/tensor";
import { BackendClosed } from "../errors.ts";
import { openBackend } from "./open-backend.ts";
import { Random } from "../testing/random.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const TIMEOUT_MS = 120_000;

test("an unknown backend is an error that lists the known ones", async () => {
  const heap = SharedHeap.create(1 << 16);
  const opened = openBackend("cuda" as "wasm", { heap });
  expect(await outcomeOf(opened)).toThrow(/`name` must be "webgpu", "wasm", "reference" or "auto", but is cuda/);
});

test(
  "auto is webgpu on hardware or wasm, never software Vulkan or the reference",
  async () => {
    const heap = SharedHeap.create(1 << 20);
    await using backend = await openBackend("auto", { heap });
    if (backend.name === "webgpu") expect(backend.device).not.toMatch(/swiftshader|llvmpipe/i);
    else expect(backend.name).toBe("wasm");
  },
  TIMEOUT_MS,
);

test(
  "auto with software asked for is webgpu on software",
  async () => {
    const heap = SharedHeap.create(1 << 20);
    await using backend = await openBackend("auto", { heap, adapter: "software" });
    expect(backend.name).toBe("webgpu");
    expect(backend.device).toMatch(/swiftshader|llvmpipe/i);
  },
  TIMEOUT_MS,
);

for (const name of ["reference", "wasm", "webgpu"] as const) {
  describe(name, () => {
    const open = (heap: SharedHeap) => openBackend(name, name === "webgpu" ? { heap, adapter: "software" } : { heap });

    test(
      "close is idempotent, returns all memory, and ends the ops",
      async () => {
        const heap = SharedHeap.create(16 << 20);
        const backend = await open(heap);
        const x = Tensor.from(heap, "f32", [4, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
        const out = Tensor.empty(heap, "f32", [2, 2, 2]);
        await backend.packSeq({ x, lengths: [2, 2], out });
        await backend.close();
        await backend.close();
        expect(() => backend.packSeq({ x, lengths: [2, 2], out })).toThrow(BackendClosed);
        expect(() => backend.empty("f32", [1])).toThrow(BackendClosed);
        x.free();
        out.free();
        expect(heap.usedBytes).toBe(0);
      },
      TIMEOUT_MS,
    );

    test(
      "empty is zeroed, and upload and download move strided views bit for bit",
      async () => {
        const heap = SharedHeap.create(16 << 20);
        await using backend = await open(heap);
        const random = new Random(1);
        const source = Tensor.from(heap, "f16", [3, 5, 7], random.normals(105)).transpose(0, 2);
        const there = backend.empty("f16", [7, 5, 3]);
        const back = Tensor.empty(heap, "f16", [7, 3, 5]).fill(1).transpose(1, 2);
        await backend.download(there, back);
        expect(back.toNumbers().every((value) => value === 0)).toBe(true);
        await backend.upload(source, there);
        await backend.download(there, back);
        expect(back.toNumbers()).toEqual(source.toNumbers());
        there.free();
        const other = backend.empty("f16", [7, 5]);
        expect(() => backend.upload(source, other)).toThrow(ArgumentError);
        other.free();
      },
      TIMEOUT_MS,
    );
  });
}

describe("wasm", () => {
  test("an operand in another memory is copied", async () => {
    const heap = SharedHeap.create(1 << 20);
    await using backend = await openBackend("wasm", { heap });
    const x = Tensor.from(SharedHeap.create(1 << 20), "f32", [2, 2], [1, 2, 3, 4]);
    const out = Tensor.zeros(heap, "f32", [1, 2, 2]);
    backend.packSeq({ x, lengths: [2], out });
    expect([...out.toNumbers()]).toEqual([1, 2, 3, 4]);
  });

  test("a heap without room for scratch memory is an error that says how much was asked", async () => {
    const heap = SharedHeap.create(1 << 16);
    await using backend = await openBackend("wasm", { heap });
    const x = Tensor.from(heap, "f32", [2, 2], [1, 2, 3, 4]).transpose(0, 1);
    const out = Tensor.zeros(heap, "f32", [1, 2, 2]);
    const rest = heap.allocate(heap.largestFreeBytes);
    expect(() => backend.packSeq({ x, lengths: [2], out })).toThrow(HeapExhausted);
    expect([...out.toNumbers()]).toEqual([0, 0, 0, 0]);
    heap.release(rest);
    backend.packSeq({ x, lengths: [2], out });
    expect([...out.toNumbers()]).toEqual([1, 3, 2, 4]);
  });

  test("backends of several ranges of one memory do not disturb one another", async () => {
    const whole = SharedHeap.create(4 << 20);
    const ranges = [1, 2].map((part) => SharedHeap.range(whole.id, whole.memory, part << 20, 1 << 20));
    const backends = await Promise.all(ranges.map((heap) => openBackend("wasm", { heap })));
    for (const [index, backend] of backends.entries()) {
      const own = ranges[index] ?? whole;
      const other = ranges[1 - index] ?? whole;
      const x = Tensor.from(other, "i32", [3], [index, 5, 6]);
      const out = Tensor.zeros(own, "i32", [2, 2]);
      backend.packSeq({ x, lengths: [2, 1], padValue: -1, out });
      expect([...out.toNumbers()]).toEqual([index, 5, 6, -1]);
    }
    for (const backend of backends) await backend.close();
  });
});
