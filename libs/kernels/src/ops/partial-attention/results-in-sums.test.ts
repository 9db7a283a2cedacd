import { afterAll, describe, expect, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "../../backends/open-backend.ts";
import { expectSameBits } from "../../testing/close.ts";
import { Random } from "../../testing/random.ts";

const heap = SharedHeap.create(4 << 20);
const backends = [await openBackend("wasm", { heap }), await openBackend("reference", { heap })];
afterAll(async () => {
  for (const backend of backends) await backend.close();
});

const [TOKENS, HEADS, DIM] = [3, 2, 4];
const random = new Random(1);
const normal = (...shape: number[]): Tensor =>
  Tensor.from(heap, "f32", shape, random.normals(shape.reduce((product, size) => product * size, 1)));
const operands = {
  query: normal(TOKENS, HEADS, DIM),
  keyCache: normal(2, 4, 1, DIM),
  valueCache: normal(2, 4, 1, DIM),
  blockTable: Tensor.from(heap, "i32", [1, 2], [0, 1]),
  sequences: [0, 0, 0],
  positions: [5, 6, 7],
};

/** A view of a tensor's memory that begins `elements` after it. */
function view(of: Tensor, elements: number, shape: readonly number[], strides: readonly number[]): Tensor {
  const byteOffset = of.byteOffset + 4 * elements;
  return Tensor.fromDescriptor({ dtype: "f32", shape, strides, heapId: heap.id, byteOffset }, heap);
}

describe.each(backends.map((backend) => [backend.name, backend] as const))("%s", (_, backend) => {
  const width = backend.sumsWidth(DIM) ?? expect.unreachable();
  const [tokenStride, headStride] = [HEADS * width, width];
  const shape = [TOKENS, HEADS, DIM];
  const memory = Tensor.zeros(heap, "f32", [(TOKENS + 2) * tokenStride]);
  /** The sums, with as much memory before them as a token's take, and behind them. */
  const state = view(memory, tokenStride, [TOKENS, HEADS, width], [tokenStride, headStride, 1]);
  const apart = () => ({
    out: Tensor.empty(heap, "f32", shape),
    lse: Tensor.empty(heap, "f32", [TOKENS, HEADS]),
  });
  const attend = (results: { readonly out: Tensor; readonly lse: Tensor }): void => {
    void backend.partialAttention({ ...operands, ...results, sums: { state, isFirst: true, isLast: true } });
  };
  const inside = { out: state.slice(2, 0, DIM), lse: state.select(2, DIM) };

  test("gives results within their own row's sums as it gives them apart", () => {
    const expected = apart();
    attend(expected);
    for (const results of [inside, { out: state.slice(2, 2, 2 + DIM), lse: state.select(2, 0) }]) {
      const { out, lse } = results;
      attend(results);
      expectSameBits("out", out, expected.out);
      expectSameBits("lse", lse, expected.lse);
    }
  });

  const strides = [tokenStride, headStride, 1];
  test.each([
    ["out a row later", "out", view(state, headStride, shape, strides)],
    ["out a row earlier", "out", view(state, -headStride, shape, strides)],
    ["out a token later", "out", view(state, tokenStride, shape, strides)],
    ["out that begins before its row", "out", view(state, -1, shape, strides)],
    ["out that ends beyond its row", "out", view(state, width - DIM + 1, shape, strides)],
    [
      "out of columns further apart than its row is long",
      "out",
      view(state, 0, shape, [tokenStride, headStride, width]),
    ],
    ["out of rows closer together", "out", view(state, 0, shape, [HEADS * DIM, DIM, 1])],
    ["out of tokens in the other order of heads", "out", view(state, 0, shape, [headStride, TOKENS * headStride, 1])],
    ["lse a row later", "lse", view(state, headStride, [TOKENS, HEADS], [tokenStride, headStride])],
    ["lse of rows closer together", "lse", view(state, 0, [TOKENS, HEADS], [HEADS, 1])],
  ] as const)("refuses %s, and writes nothing", (__, argument, result) => {
    memory.fill(7);
    expect(() => attend({ ...apart(), [argument]: result })).toThrow(ArgumentError);
    expect(() => attend({ ...apart(), [argument]: result })).toThrow(`\`${argument}\` must be`);
    expect(memory.f32.every((value) => value === 7)).toBe(true);
  });
});
