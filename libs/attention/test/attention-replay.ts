// Steps of several shapes run by all ranks of a world, repeated, and compared with float64 attention.
import { expect } from "bun:test";
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import { type DType, Tensor } from "@lockstep/tensor";
import { attendInFloat64, type ReferenceSequence } from "./attention-reference.ts";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./attention-program.ts";
import type { TestBackend } from "./test-backend.ts";
import type { Steps } from "./attention-program.ts";

export interface Shape {
  readonly name: string;
  readonly steps: Steps;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  readonly kvDtype: DType;
  readonly blockSize: number;
  readonly interleave: number;
  readonly softcap?: number;
  readonly window?: number;
}

export const SHAPES: readonly Shape[] = [
  {
    name: "GQA, prompts of 0 to 37 tokens, then decode",
    steps: [
      [37, 0, 5],
      [1, 1, 1],
      [1, 3, 1],
    ],
    queryHeads: 8,
    kvHeads: 2,
    keyDim: 64,
    valueDim: 64,
    kvDtype: "f32",
    blockSize: 4,
    interleave: 1,
  },
  {
    name: "MQA with odd sizes, sliding window, several query tokens",
    steps: [
      [3, 29],
      [5, 1],
      [1, 7],
    ],
    queryHeads: 5,
    kvHeads: 1,
    keyDim: 7,
    valueDim: 113,
    kvDtype: "f32",
    blockSize: 6,
    interleave: 3,
    window: 11,
  },
  {
    name: "MHA with softcap over f16 keys",
    steps: [[50], [1], [1]],
    queryHeads: 8,
    kvHeads: 8,
    keyDim: 32,
    valueDim: 32,
    kvDtype: "f16",
    blockSize: 16,
    interleave: 16,
    softcap: 3,
  },
];

/** Tensors of a shape in the world's heap, and what float64 makes of them. */
function prepare(shape: Shape, world: World<MethodsOf<typeof program>>, seed: number) {
  const random = new RandomStream(seed);
  const { steps, queryHeads, kvHeads, keyDim, valueDim, kvDtype } = shape;
  const rows = steps.flat().reduce((sum, tokens) => sum + tokens, 0);
  const filled = (heads: number, dim: number, dtype: DType): Tensor =>
    Tensor.from(world.heap, dtype, [rows, heads, dim], random.normals(rows * heads * dim));
  const query = filled(queryHeads, keyDim, "f32");
  const key = filled(kvHeads, keyDim, kvDtype);
  const value = filled(kvHeads, valueDim, kvDtype);
  const out = Tensor.empty(world.heap, "f32", [rows, queryHeads, valueDim]);
  const lse = Tensor.empty(world.heap, "f32", [rows, queryHeads]);

  const heads = (source: Tensor, row: number): Float64Array[] =>
    Array.from({ length: source.dim(1) }, (_, head) => source.select(0, row).select(0, head).toNumbers());
  const sequences = (steps[0] ?? []).map(() => ({ keys: [] as Float64Array[][], values: [] as Float64Array[][] }));
  const expectedOut: number[] = [];
  const expectedLse: number[] = [];
  const variant = {
    scale: 1 / Math.sqrt(keyDim),
    headsPerKv: queryHeads / kvHeads,
    ...(shape.softcap === undefined ? {} : { softcap: shape.softcap }),
    ...(shape.window === undefined ? {} : { window: shape.window }),
  };
  let row = 0;
  for (const step of steps) {
    for (const [index, tokens] of step.entries()) {
      for (let token = 0; token < tokens; token++, row++) {
        const sequence = sequences[index] as ReferenceSequence & { keys: Float64Array[][]; values: Float64Array[][] };
        sequence.keys.push(heads(key, row));
        sequence.values.push(heads(value, row));
        for (const [head, queryRow] of heads(query, row).entries()) {
          const result = attendInFloat64(queryRow, head, sequence.keys.length - 1, sequence, variant);
          expectedOut.push(...result.out);
          expectedLse.push(result.lse);
        }
      }
    }
  }
  return { query, key, value, out, lse, expectedOut, expectedLse };
}

function expectClose(actual: Float64Array, expected: readonly number[], tolerance = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  for (const [index, want] of expected.entries()) {
    const got = actual[index] ?? Number.NaN;
    if (!(got === want || Math.abs(got - want) <= tolerance * (1 + Math.abs(want)))) {
      throw new Error(`element ${index}: ${got} instead of ${want}`);
    }
  }
}

/** Half of the last bit, of values up to 4. */
const ROUNDING = { f32: 1e-5, f16: 1e-3, bf16: 8e-3 } as const;

/** Returns the bits of each combine. Partial outputs in 16 bits are rounded before they are merged, LSEs never. */
export async function replayAndCheck(
  size: number,
  backend: TestBackend,
  shape: Shape,
  repeats: number,
  partialDtype: keyof typeof ROUNDING = "f32",
): Promise<Buffer[]> {
  const bitsOf: Buffer[] = [];
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./attention-program.ts", import.meta.url),
    options: { backend },
    // On GPUs every query goes straight from where it lies to where it goes up from; elsewhere small ones are staged.
    ...(backend === "webgpu" ? { stagedLimit: 0 } : {}),
    deadlineMs: 60_000,
  });
  const { query, key, value, out, lse, expectedOut, expectedLse } = prepare(shape, world, 7);
  const rows = query.dim(0);
  for (const combine of partialDtype === "f32" ? (["ag-rs", "a2a"] as const) : (["a2a", "auto"] as const)) {
    let first: Buffer | undefined;
    for (let repeat = 0; repeat < repeats; repeat++) {
      out.fill(Number.NaN);
      lse.fill(Number.NaN);
      const { softcap, window, steps, kvDtype, blockSize, interleave } = shape;
      const held = await world.call("replay", [
        {
          steps,
          kvDtype,
          blockSize,
          options: {
            interleave,
            combine,
            partialDtype,
            ...(softcap === undefined ? {} : { softcap }),
            ...(window === undefined ? {} : { window }),
          },
          query: query.descriptor,
          key: key.descriptor,
          value: value.descriptor,
          out: out.descriptor,
          lse: lse.descriptor,
        },
      ]);
      expect(held.reduce((sum, { tokensHeld }) => sum + tokensHeld, 0)).toBe(rows);
      const sequences = steps[0]?.length ?? 1;
      for (const { tokensHeld } of held) {
        expect(tokensHeld).toBeLessThanOrEqual(Math.ceil(rows / size) + sequences * interleave);
      }
      const bits = Buffer.concat([out.bytes, lse.bytes]);
      first ??= bits;
      expect(Buffer.compare(bits, first)).toBe(0);
    }
    expectClose(out.toNumbers(), expectedOut, ROUNDING[partialDtype]);
    expectClose(lse.toNumbers(), expectedLse);
    if (first !== undefined) bitsOf.push(first);
  }
  return bitsOf;
}
