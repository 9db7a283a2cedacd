// Queries, keys and values of attention cases, and caches that hold them.
import type { DType } from "@lockstep/tensor";
import type { Random } from "../../../../libs/kernels/src/testing/random.ts";
import type { OpParameters, Values } from "./corpus-values.ts";
import { placeOf } from "./ownership-ops.ts";
import { normals, rounded } from "./rounded.ts";

/** A case of attention, before its numbers are drawn. */
export interface AttentionCase {
  readonly name: string;
  readonly parameters: OpParameters & { readonly world: number };
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** Query tokens of each, at its end. Default: one each. */
  readonly queries?: readonly number[];
  readonly heads?: readonly [query: number, kv: number];
  readonly dims?: readonly [key: number, value: number];
  readonly dtype?: DType;
  readonly kvDtype?: DType;
  readonly sinks?: readonly number[];
  /** A number that stands in column 0 of KV head 0, in the key or the value of a sequence's position. */
  readonly bad?: {
    readonly of: "key" | "value";
    readonly sequence: number;
    readonly position: number;
    readonly is: number;
  };
}

/** Its numbers. */
export interface Drawn {
  readonly query: Values;
  /** [sum of lengths, Hkv, D]; values are left out for MLA. */
  readonly key: Values;
  readonly value: Values | undefined;
  readonly sinks: Values | undefined;
  readonly queries: readonly number[];
}

/** Draws its numbers: normally distributed, but for `bad`. */
export function drawn(each: AttentionCase, random: Random): Drawn {
  const { lengths, queries = lengths.map(() => 1), dtype = "f32", kvDtype = dtype, bad } = each;
  const [heads, kvHeads] = each.heads ?? [4, 2];
  const [keyDim, valueDim] = each.dims ?? [8, 6];
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const rows = queries.reduce((sum, count) => sum + count, 0);
  const draw = (name: "key" | "value", dim: number): Values => {
    const shape = [total, kvHeads, dim];
    const numbers = Float64Array.from(stored(random, kvDtype, total * kvHeads * dim));
    if (bad !== undefined && bad.of === name) {
      const before = lengths.slice(0, bad.sequence).reduce((sum, length) => sum + length, 0);
      numbers[(before + bad.position) * kvHeads * dim] = bad.is;
    }
    return { dtype: kvDtype, shape, numbers };
  };
  const query = { dtype, shape: [rows, heads, keyDim], numbers: normals(random, dtype, rows * heads * keyDim) };
  const key = draw("key", keyDim);
  const value = each.parameters.value_dim === undefined ? draw("value", valueDim) : undefined;
  const { sinks } = each;
  return {
    query,
    key,
    value,
    sinks: sinks === undefined ? undefined : { dtype: "f32", shape: [sinks.length], numbers: sinks },
    queries,
  };
}

/** Numbers that a cache of the dtype holds. */
function stored(random: Random, dtype: DType, count: number): Float64Array {
  if (dtype === "i8")
    return random.normals(count).map((number) => Math.round(Math.min(Math.max(number * 40, -127), 127)));
  if (dtype === "f8e4m3")
    return rounded(
      dtype,
      random.normals(count).map((number) => number * 8),
    );
  return normals(random, dtype, count);
}

/** Integers in a row. */
export const integers = (numbers: readonly number[]): Values => ({ dtype: "i32", shape: [numbers.length], numbers });

/**
 * Keys or values [tokens, Hkv, D] in caches of all ranks [W, blocks, block size, Hkv, D]. Slots that no token goes to
 * hold what other requests left, or `poison`.
 * @param table [B, columns], of all blocks
 */
export function pagedCache(
  source: Values,
  lengths: readonly number[],
  parameters: OpParameters,
  table: ArrayLike<number>,
  random: Random,
  poison?: number,
): Values {
  const { world = 1, interleave = 1, block_size: size = 1 } = parameters;
  const [, kvHeads = 0, dim = 0] = source.shape;
  const [blocks, columns] = [table.length, table.length / lengths.length];
  const count = world * blocks * size * kvHeads * dim;
  const numbers = stored(random, source.dtype, count).map((number) => poison ?? number);
  let token = 0;
  for (const [sequence, length] of lengths.entries()) {
    for (let position = 0; position < length; position++, token++) {
      const { rank, local } = placeOf({ world, interleave, weights: new Array(world).fill(1) }, position);
      const block = table[sequence * columns + Math.floor(local / size)] ?? 0;
      const to = ((rank * blocks + block) * size + (local % size)) * kvHeads * dim;
      for (let at = 0; at < kvHeads * dim; at++) {
        numbers[to + at] = source.numbers[token * kvHeads * dim + at] ?? Number.NaN;
      }
    }
  }
  return { dtype: source.dtype, shape: [world, blocks, size, kvHeads, dim], numbers };
}
