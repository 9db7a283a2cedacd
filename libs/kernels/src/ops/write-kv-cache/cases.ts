import { type DType, Tensor } from "@lockstep/tensor";
import { EXACT } from "../../testing/close.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { type Layout, strided } from "../../testing/strided.ts";
import type { WriteKvCacheArgs } from "./index.ts";

interface Row {
  readonly tokens: number;
  readonly heads: number;
  readonly keyDim: number;
  /** Left out: as keyDim. 0 tokens of it: see `mla`. */
  readonly valueDim?: number;
  readonly blocks: number;
  readonly blockSize: number;
  readonly dtype?: DType;
  readonly cacheDType?: DType;
  readonly layout?: Layout;
  /** No values: they are columns of the keys. */
  readonly mla?: boolean;
  /** Cache with the block and head dimensions exchanged in memory. */
  readonly stridedCache?: boolean;
  /** Of a quantised cache, for keys; values have them doubled. */
  readonly scales?: readonly number[];
  /** Every row of a quantised cache gets a scale of its own. */
  readonly rowScales?: boolean;
  /** Every n-th token belongs to another shard. */
  readonly skipEvery?: number;
}

export interface HeapWriteKvCacheArgs extends WriteKvCacheArgs {
  readonly keyCache: Tensor;
  readonly valueCache?: Tensor;
  readonly keyScaleCache?: Tensor;
  readonly valueScaleCache?: Tensor;
}

const ROWS: readonly Row[] = [
  { tokens: 1, heads: 1, keyDim: 8, blocks: 2, blockSize: 4 },
  { tokens: 5, heads: 2, keyDim: 64, blocks: 4, blockSize: 16, cacheDType: "f16" },
  { tokens: 9, heads: 2, keyDim: 64, blocks: 4, blockSize: 16, cacheDType: "bf16", skipEvery: 2 },
  { tokens: 7, heads: 3, keyDim: 113, valueDim: 5, blocks: 3, blockSize: 3, cacheDType: "f16", skipEvery: 3 },
  { tokens: 4, heads: 1, keyDim: 576, blocks: 9, blockSize: 1, dtype: "bf16", mla: true },
  { tokens: 6, heads: 1, keyDim: 7, valueDim: 3, blocks: 2, blockSize: 8, dtype: "f16" },
  { tokens: 6, heads: 2, keyDim: 32, blocks: 2, blockSize: 8, dtype: "f16", cacheDType: "f32" },
  { tokens: 6, heads: 2, keyDim: 33, blocks: 2, blockSize: 8, dtype: "bf16", cacheDType: "f32" },
  { tokens: 6, heads: 2, keyDim: 24, blocks: 2, blockSize: 8, dtype: "bf16", cacheDType: "f16" },
  { tokens: 6, heads: 2, keyDim: 25, blocks: 2, blockSize: 8, dtype: "f16", cacheDType: "bf16" },
  { tokens: 6, heads: 4, keyDim: 16, blocks: 3, blockSize: 8, layout: "gaps", cacheDType: "f16" },
  { tokens: 6, heads: 4, keyDim: 16, blocks: 3, blockSize: 8, layout: "transposed" },
  { tokens: 6, heads: 4, keyDim: 17, blocks: 3, blockSize: 8, layout: "every-second", cacheDType: "bf16" },
  { tokens: 6, heads: 4, keyDim: 17, blocks: 3, blockSize: 8, layout: "columns-first", dtype: "f16" },
  { tokens: 6, heads: 4, keyDim: 16, blocks: 3, blockSize: 8, stridedCache: true, cacheDType: "f16" },
  { tokens: 3, heads: 2, keyDim: 1, blocks: 3, blockSize: 5, skipEvery: 1 },
  { tokens: 0, heads: 2, keyDim: 8, blocks: 3, blockSize: 5 },
  { tokens: 3, heads: 2, keyDim: 0, valueDim: 4, blocks: 3, blockSize: 5 },
  { tokens: 9, heads: 2, keyDim: 64, blocks: 4, blockSize: 16, cacheDType: "f8e4m3", scales: [0.013, 3] },
  { tokens: 9, heads: 2, keyDim: 64, blocks: 4, blockSize: 16, cacheDType: "i8", scales: [0.02], skipEvery: 2 },
  { tokens: 7, heads: 3, keyDim: 19, valueDim: 5, blocks: 3, blockSize: 3, cacheDType: "f8e4m3", scales: [1, 2, 0.5] },
  {
    tokens: 7,
    heads: 3,
    keyDim: 19,
    blocks: 3,
    blockSize: 3,
    dtype: "bf16",
    cacheDType: "i8",
    scales: [0.1],
    mla: true,
  },
  {
    tokens: 6,
    heads: 4,
    keyDim: 17,
    blocks: 3,
    blockSize: 8,
    dtype: "f16",
    cacheDType: "f8e4m3",
    scales: [0.7],
    layout: "every-second",
  },
  { tokens: 6, heads: 4, keyDim: 16, blocks: 3, blockSize: 8, dtype: "f8e4m3", stridedCache: true },
  { tokens: 6, heads: 2, keyDim: 7, blocks: 3, blockSize: 8, dtype: "i8", layout: "gaps" },
  { tokens: 40, heads: 8, keyDim: 128, blocks: 8, blockSize: 16, cacheDType: "f16" },
  { tokens: 9, heads: 2, keyDim: 64, blocks: 4, blockSize: 16, cacheDType: "f8e4m3", rowScales: true },
  { tokens: 9, heads: 2, keyDim: 64, blocks: 4, blockSize: 16, cacheDType: "i8", rowScales: true, skipEvery: 2 },
  { tokens: 7, heads: 3, keyDim: 19, valueDim: 5, blocks: 3, blockSize: 3, cacheDType: "f8e4m3", rowScales: true },
  {
    tokens: 7,
    heads: 3,
    keyDim: 19,
    blocks: 3,
    blockSize: 3,
    dtype: "bf16",
    cacheDType: "i8",
    rowScales: true,
    mla: true,
  },
  {
    tokens: 6,
    heads: 4,
    keyDim: 17,
    blocks: 3,
    blockSize: 8,
    dtype: "f16",
    cacheDType: "f8e4m3",
    rowScales: true,
    layout: "every-second",
  },
  {
    tokens: 6,
    heads: 4,
    keyDim: 16,
    blocks: 3,
    blockSize: 8,
    cacheDType: "i8",
    rowScales: true,
    layout: "transposed",
    stridedCache: true,
  },
  { tokens: 2, heads: 1, keyDim: 576, valueDim: 0, blocks: 3, blockSize: 5, cacheDType: "i8", rowScales: true },
  { tokens: 3, heads: 2, keyDim: 1, blocks: 3, blockSize: 5, cacheDType: "i8", rowScales: true, skipEvery: 1 },
];

/** Numbers that round in every interesting way: ties, subnormals, overflow, infinities, NaN. */
const SPECIAL = [
  0,
  1 + 2 ** -11,
  1 + 3 * 2 ** -11,
  1 + 2 ** -8,
  1 + 3 * 2 ** -8,
  2 ** -24,
  2 ** -25,
  3 * 2 ** -26,
  2 ** -14 - 2 ** -25,
  65504,
  65519.996,
  65520,
  -1e30,
  3.4e38,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
];

export const WRITE_KV_CACHE_CASES: readonly OpCase<HeapWriteKvCacheArgs>[] = ROWS.map((row, index) => ({
  name: describeRow(row),
  tolerance: EXACT,
  build: (arena) => {
    const { tokens, heads, keyDim, valueDim = keyDim, blocks, blockSize, dtype = "f32", cacheDType = dtype } = row;
    const { layout = "contiguous", mla = false, stridedCache = false, skipEvery = 0 } = row;
    const random = new Random(4000 + index);
    const draw = (count: number): Float64Array =>
      dtype === "i8"
        ? Float64Array.from({ length: count }, () => random.integer(256) - 128)
        : Float64Array.from({ length: count }, () =>
            random.integer(4) === 0 ? (SPECIAL[random.integer(SPECIAL.length)] ?? 0) : random.normal(),
          );
    const tensor = (dim: number): Tensor =>
      strided(arena, dtype, [tokens, heads, dim], draw(tokens * heads * dim), layout);
    const cache = (dim: number): Tensor =>
      stridedCache
        ? Tensor.empty(arena, cacheDType, [heads, blockSize, blocks, dim]).fill(Number.NaN).transpose(0, 2)
        : Tensor.empty(arena, cacheDType, [blocks, blockSize, heads, dim]).fill(Number.NaN);
    const slots = random.permutation(blocks * blockSize).slice(0, tokens);
    const key = tensor(keyDim);
    const slotMapping = slots.map((slot, at) => (skipEvery > 0 && at % skipEvery === 0 ? -1 : slot));
    const keyScale = row.scales === undefined ? {} : { keyScale: row.scales };
    const valueScale = row.scales === undefined ? {} : { valueScale: row.scales.map((scale) => 2 * scale) };
    const scaleCache = (): Tensor =>
      stridedCache
        ? Tensor.empty(arena, "f32", [heads, blockSize, blocks, 1]).fill(Number.NaN).transpose(0, 2)
        : Tensor.empty(arena, "f32", [blocks, blockSize, heads, 1]).fill(Number.NaN);
    const keyScaleCache = row.rowScales ? { keyScaleCache: scaleCache() } : {};
    if (mla) return { key, slotMapping, keyCache: cache(keyDim), ...keyScale, ...keyScaleCache };
    const valueScaleCache = row.rowScales ? { valueScaleCache: scaleCache() } : {};
    const scales = { ...keyScale, ...valueScale, ...keyScaleCache, ...valueScaleCache };
    const caches = { keyCache: cache(keyDim), valueCache: cache(valueDim), ...scales };
    return { key, value: tensor(valueDim), slotMapping, ...caches };
  },
}));

function describeRow(row: Row): string {
  const { tokens, heads, keyDim, valueDim = keyDim, blocks, blockSize, dtype = "f32", cacheDType = dtype } = row;
  const dims = row.mla ? `Dk${keyDim}` : `Dk${keyDim} Dv${valueDim}`;
  const parts = [`T${tokens} Hkv${heads} ${dims} in ${blocks}x${blockSize} slots, ${dtype} -> ${cacheDType}`];
  if (row.scales !== undefined) parts.push(`scales [${row.scales}]`);
  if (row.rowScales) parts.push("a scale a row");
  if (row.layout !== undefined) parts.push(row.layout);
  if (row.stridedCache) parts.push("strided cache");
  if (row.skipEvery !== undefined) parts.push(`1 of ${row.skipEvery} tokens stored elsewhere`);
  return parts.join(", ");
}
