import { expect, setDefaultTimeout, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { openTestBackends } from "../../testing/test-backends.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(16 << 20);
const backends = await openTestBackends(heap);
const FLOAT_DTYPES: readonly DType[] = ["f32", "f16", "bf16"];
const POISON = 7;

/** Rows of which some columns at the start, and some at the end, belong to somebody else. */
const margins = fc.record({ before: fc.nat(3), after: fc.nat(9), step: fc.integer({ min: 1, max: 2 }) });
const merges = fc
  .record({
    states: fc.integer({ min: 1, max: 4 }),
    tokens: fc.integer({ min: 1, max: 3 }),
    heads: fc.integer({ min: 1, max: 6 }),
    dim: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 128)),
    dtype: fc.constantFrom(...FLOAT_DTYPES),
    outDType: fc.constantFrom(...FLOAT_DTYPES),
    margin: margins,
    inputMargin: margins,
  })
  .chain((shape) => {
    const rows = shape.states * shape.tokens * shape.heads;
    const empty = fc.oneof(
      fc.constant(new Array<boolean>(rows).fill(true)),
      fc.array(fc.boolean(), { minLength: rows, maxLength: rows }),
    );
    return fc.record({ shape: fc.constant(shape), empty });
  });

for (const backend of backends) {
  test(`mergeAttnStates on ${backend.name} writes all of out and nothing else, whichever states are empty`, () =>
    fc.assert(
      fc.asyncProperty(merges, async ({ shape, empty }) => {
        const { states, tokens, heads, dim, dtype, outDType, margin, inputMargin } = shape;
        const made: Tensor[] = [];
        const rowsOf = (type: DType, { before, after, step }: typeof margin, fill: number): Tensor => {
          const whole = Tensor.empty(heap, type, [tokens, heads, before + dim * step + after]).fill(fill);
          made.push(whole);
          return whole;
        };
        const view = (whole: Tensor, { before, step }: typeof margin): Tensor =>
          whole.slice(2, before, before + dim * step, step);
        const outs = Array.from({ length: states }, (_, state) =>
          view(rowsOf(dtype, inputMargin, state + 1), inputMargin),
        );
        const lses = Array.from({ length: states }, (_, state) => {
          const values = Array.from({ length: tokens * heads }, (_, row) =>
            empty[state * tokens * heads + row] ? Number.NEGATIVE_INFINITY : 0,
          );
          const lse = Tensor.from(heap, "f32", [tokens, heads], values);
          made.push(lse);
          return lse;
        });
        const whole = rowsOf(outDType, margin, POISON);
        const out = view(whole, margin);
        await backend.mergeAttnStates({ outs, lses, out });
        const expected = Tensor.empty(heap, outDType, whole.shape).fill(POISON);
        made.push(expected);
        const values: number[] = [];
        for (let row = 0; row < tokens * heads; row++) {
          const used = outs.flatMap((_, state) => (empty[state * tokens * heads + row] ? [] : [state + 1]));
          const mean = used.length === 0 ? 0 : used.reduce((sum, value) => sum + value, 0) / used.length;
          for (let column = 0; column < dim; column++) values.push(mean);
        }
        view(expected, margin).set(values);
        const [got, wanted] = [whole.toNumbers(), expected.toNumbers()];
        for (const [index, value] of wanted.entries()) {
          expect(Math.abs((got[index] ?? Number.NaN) - value)).toBeLessThanOrEqual(value === POISON ? 0 : 0.02 * value);
        }
        for (const tensor of made) tensor.free();
      }),
      {
        numRuns: backend.name === "webgpu" ? 12 : 150,
        seed: 29,
        examples: [2, 9].map((dim) => [
          {
            shape: {
              states: 2,
              tokens: 1,
              heads: 1,
              dim,
              dtype: "bf16",
              outDType: "bf16",
              margin: { before: 0, after: 9, step: 1 },
              inputMargin: { before: 0, after: 0, step: 1 },
            },
            empty: [true, true],
          },
        ]),
      },
    ));
}
