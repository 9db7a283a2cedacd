import { expect, setDefaultTimeout, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { expectClose, HALF_INPUT_TOLERANCE } from "../../testing/close.ts";
import { Random } from "../../testing/random.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { partialAttentionReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(16 << 20);
const backends = await openTestBackends(heap);

/** Which columns of one cache's rows are keys, and which are values. */
const columns = fc.record({
  keyStart: fc.constantFrom(0, 0, 0, 4, 8),
  keyDim: fc.integer({ min: 1, max: 24 }),
  valueStart: fc.constantFrom(0, 0, 0, 4, 8),
  valueDim: fc.integer({ min: 1, max: 24 }),
  dtype: fc.constantFrom<DType>("f32", "f16", "bf16", "i8"),
  heads: fc.constantFrom(1, 2, 6),
  tokens: fc.integer({ min: 1, max: 3 }),
});

for (const backend of backends) {
  test(`keys and values may be any columns of one cache on ${backend.name}, also more values than keys`, () =>
    fc.assert(
      fc.asyncProperty(columns, async ({ keyStart, keyDim, valueStart, valueDim, dtype, heads, tokens }) => {
        const random = new Random(keyDim * 100 + valueDim);
        const [blocks, blockSize, width] = [3, 4, 32];
        const normals = random.normals(blocks * blockSize * width);
        const numbers = dtype === "i8" ? normals.map((value) => Math.round(20 * value)) : normals;
        const cache = Tensor.from(heap, dtype, [blocks, blockSize, 1, width], numbers);
        const query = Tensor.from(heap, "f32", [tokens, heads, keyDim], random.normals(tokens * heads * keyDim));
        const blockTable = Tensor.from(heap, "i32", [1, 3], [2, 0, 1]);
        const result = (): { out: Tensor; lse: Tensor } => ({
          out: Tensor.empty(heap, "f32", [tokens, heads, valueDim]).fill(Number.NaN),
          lse: Tensor.empty(heap, "f32", [tokens, heads]).fill(Number.NaN),
        });
        const args = {
          query,
          keyCache: cache.slice(3, keyStart, keyStart + keyDim),
          valueCache: cache.slice(3, valueStart, valueStart + valueDim),
          ...(dtype === "i8" ? { keyScale: [0.05], valueScale: [0.05] } : {}),
          blockTable,
          sequences: new Array<number>(tokens).fill(0),
          positions: Array.from({ length: tokens }, (_, token) => 8 + token),
        };
        const [expected, actual] = [result(), result()];
        partialAttentionReference({ ...args, ...expected });
        await backend.partialAttention({ ...args, ...actual });
        expectClose("out", actual.out, expected.out, HALF_INPUT_TOLERANCE);
        expectClose("lse", actual.lse, expected.lse, HALF_INPUT_TOLERANCE);
        for (const made of [cache, query, blockTable, expected.out, expected.lse, actual.out, actual.lse]) made.free();
        expect(heap.usedBytes).toBeLessThan(heap.totalBytes);
      }),
      { numRuns: backend.name === "webgpu" ? 15 : 300, seed: 41 },
    ));
}
