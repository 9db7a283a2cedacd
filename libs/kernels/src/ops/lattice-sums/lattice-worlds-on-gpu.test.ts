// The law of world-invariant attention on a GPU: however a context is dealt to ranks, in whatever blocks and batches, the
// joined bounds, the added sums and the results of a row have the same bits.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { webgpuBackendOn } from "../../backends/webgpu-backend.ts";
import { openGpuDevice } from "../../device/gpu-device.ts";
import { kvOwner, kvSlot, localLength } from "../../kv/kv-ownership.ts";
import { Random } from "../../testing/random.ts";
import type { AttentionInputs } from "../partial-attention/attention-inputs.ts";

setDefaultTimeout(300_000);

const heap = SharedHeap.create(96 << 20);
const adapter = process.env.LOCKSTEP_TEST_ADAPTER === "hardware" ? "hardware" : "software";
const gpu = await openGpuDevice({ adapter });
const backend = webgpuBackendOn(heap, gpu);
/** Has splits of other lengths, having less memory for them. */
const frugal = webgpuBackendOn(heap, { ...gpu, splitBytes: 4096, release: async () => undefined });
afterAll(async () => {
  await frugal.close();
  await backend.close();
});

interface Config {
  readonly dtype: DType;
  readonly dims: readonly [key: number, value: number];
  readonly heads: readonly [query: number, kv: number];
  readonly sinks: boolean;
  readonly softcap?: number;
}

const CONFIGS: readonly Config[] = [
  { dtype: "f32", dims: [8, 8], heads: [3, 1], sinks: true },
  { dtype: "f16", dims: [32, 16], heads: [8, 2], sinks: false },
  { dtype: "bf16", dims: [7, 5], heads: [4, 2], sinks: false, softcap: 5 },
  { dtype: "i8", dims: [16, 16], heads: [4, 2], sinks: true },
];
/** Few, since a GPU compiles kernels for each. */
const BLOCK_SIZES = [6, 12] as const;
const INTERLEAVES = [1, 2, 3, 6] as const;

/** A sequence: its keys and values, and the query tokens at its end. */
interface Context {
  readonly length: number;
  readonly queries: number;
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly query: Float32Array;
}

interface Dealing {
  readonly ranks: number;
  readonly interleave: number;
  readonly blockSize: number;
}

type Special = "none" | "value" | "key";

function drawContext(config: Config, random: Random, length: number, queries: number, special: Special): Context {
  const { dims, heads, dtype } = config;
  const size = dtype === "i8" ? 40 : 1;
  const draw = (count: number): Float32Array => Float32Array.from(random.normals(count), (x) => size * x);
  const keys = draw(length * heads[1] * dims[0]);
  // From tiny values to huge ones, so that terms lie far apart.
  const values = draw(length * heads[1] * dims[1]).map((x) => (dtype === "i8" ? x : x * 2 ** (random.integer(16) - 8)));
  if (dtype !== "i8" && length > 0) {
    if (special === "value") values[random.integer(values.length)] = Number.POSITIVE_INFINITY;
    if (special === "key") keys[random.integer(keys.length)] = Number.NaN;
  }
  const query = Float32Array.from(random.normals(queries * heads[0] * dims[0]));
  return { length, queries, keys, values, query };
}

/** What a rank is given of some contexts, in blocks in random order. */
function inputsOf(
  arena: Arena,
  config: Config,
  contexts: readonly Context[],
  { ranks, interleave, blockSize }: Dealing,
  index: number,
  random: Random,
): Omit<AttentionInputs, never> & { blockTable: Tensor; sequences: number[]; positions: number[] } {
  const { dtype, dims, heads } = config;
  const [queryHeads, kvHeads] = heads;
  const shard = { index, count: ranks, interleave };
  const blocksOf = contexts.map(({ length }) => Math.ceil(localLength(shard, length) / blockSize));
  const numBlocks = blocksOf.reduce((sum, count) => sum + count, 1);
  const order = random.permutation(numBlocks);
  const poison = dtype === "i8" ? -128 : Number.NaN;
  const [keyCache, valueCache] = dims.map((dim) =>
    Tensor.empty(arena, dtype, [numBlocks, blockSize, kvHeads, dim]).fill(poison),
  );
  const [keyScaleCache, valueScaleCache] = dims.map(() =>
    Tensor.empty(arena, "f32", [numBlocks, blockSize, kvHeads, 1]).fill(Number.NaN),
  );
  if (!keyCache || !valueCache || !keyScaleCache || !valueScaleCache) throw new Error("no caches");
  const columns = Math.max(1, ...blocksOf);
  const blockTable = Tensor.empty(arena, "i32", [contexts.length, columns]).fill(-1);
  let taken = 0;
  for (const [sequence, context] of contexts.entries()) {
    const blocks = order.slice(taken, taken + (blocksOf[sequence] ?? 0));
    taken += blocks.length;
    for (const [column, block] of blocks.entries()) blockTable.i32[sequence * columns + column] = block;
    for (let position = 0; position < context.length; position++) {
      if (kvOwner(position, ranks, interleave) !== index) continue;
      const slot = kvSlot(shard, position, blockSize, blocks);
      const at = (cache: Tensor): Tensor => cache.select(0, Math.floor(slot / blockSize)).select(0, slot % blockSize);
      const row = (numbers: Float32Array, dim: number): Float32Array =>
        numbers.subarray(position * kvHeads * dim, (position + 1) * kvHeads * dim);
      at(keyCache).set(row(context.keys, dims[0]));
      at(valueCache).set(row(context.values, dims[1]));
      // Scales that follow from the position alone.
      const scales = Array.from({ length: kvHeads }, (_, head) => 0.01 * (1 + ((position * 7 + head) % 5)));
      at(keyScaleCache).set(scales);
      at(valueScaleCache).set(scales);
    }
  }
  const tokens = contexts.flatMap(({ length, queries }, sequence) =>
    Array.from({ length: queries }, (_, query) => ({ sequence, position: length - queries + query })),
  );
  const query = Tensor.empty(arena, "f32", [tokens.length, queryHeads, dims[0]]);
  query.set(contexts.flatMap((context) => [...context.query]));
  const sinks = Tensor.from(
    arena,
    "f32",
    [queryHeads],
    [...Array(queryHeads).keys()].map((head) => head / 2 - 1),
  );
  return {
    query,
    keyCache,
    valueCache,
    blockTable,
    sequences: tokens.map(({ sequence }) => sequence),
    positions: tokens.map(({ position }) => position),
    ...(dtype === "i8" ? { keyScaleCache, valueScaleCache } : {}),
    ...{ shard },
    ...(config.softcap === undefined ? {} : { softcap: config.softcap }),
    ...(config.sinks && index === 0 ? { sinks } : {}),
  };
}

/** Bits of the bounds, sums and results of all rows. */
async function attend(
  arena: Arena,
  config: Config,
  contexts: readonly Context[],
  dealing: Dealing,
  random: Random,
): Promise<{ bounds: Tensor; sums: Tensor; out: Tensor; lse: Tensor }> {
  const tokens = contexts.reduce((sum, { queries }) => sum + queries, 0);
  const heads = config.heads[0];
  const valueDim = config.dims[1];
  const bounds = Tensor.empty(arena, "f32", [3, tokens, heads]).fill(Number.NEGATIVE_INFINITY);
  const ranks = Array.from({ length: dealing.ranks }, (_, index) => ({
    on: random.integer(2) === 0 ? backend : frugal,
    inputs: inputsOf(arena, config, contexts, dealing, index, random),
  }));
  const own = Tensor.empty(arena, "f32", bounds.shape);
  for (const { on, inputs } of ranks) {
    await on.attentionBounds({ ...inputs, bounds: own });
    for (const [at, bound] of own.f32.entries()) bounds.f32[at] = Math.max(bounds.f32[at] ?? Number.NaN, bound);
  }
  const sums = Tensor.empty(arena, "i32", [tokens, heads, valueDim + 1, 2]).fill(0);
  const part = Tensor.empty(arena, "i32", sums.shape);
  for (const { on, inputs } of ranks) {
    await on.latticeSums({ ...inputs, bounds, sums: part });
    for (const [at, word] of part.i32.entries()) sums.i32[at] = (sums.i32[at] ?? 0) + word;
  }
  const out = Tensor.empty(arena, "f32", [tokens, heads, valueDim]);
  const lse = Tensor.empty(arena, "f32", [tokens, heads]);
  await backend.finishLattice({ bounds, sums, out, lse });
  return { bounds, sums, out, lse };
}

const dealing = fc.record({
  ranks: fc.integer({ min: 2, max: 8 }),
  interleave: fc.constantFrom(...INTERLEAVES),
  blockSize: fc.constantFrom(...BLOCK_SIZES),
});
const lengths = fc.array(
  fc.tuple(
    fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 200, max: 500 })),
    fc.integer({ min: 1, max: 3 }),
  ),
  {
    minLength: 1,
    maxLength: 3,
  },
);

describe.each(CONFIGS.map((config) => [config.dtype, config] as const))("over %s", (_, config) => {
  test("any number of ranks, interleave, block size and batch gives the bits of one rank", async () => {
    await fc.assert(
      fc.asyncProperty(
        lengths,
        dealing,
        fc.constantFrom<Special>("none", "value", "key"),
        fc.nat(),
        async (drawn, dealt, special, seed) => {
          const arena = new Arena(heap, 40 << 20);
          try {
            const random = new Random(seed);
            const contexts = drawn.map(([length, queries]) =>
              drawContext(config, random, length, Math.min(length, queries), special),
            );
            const together = await attend(arena, config, contexts, dealt, random);
            const bits = (tensor: Tensor): number[] => [
              ...new Int32Array(tensor.heap.buffer, tensor.byteOffset, tensor.size),
            ];
            let token = 0;
            for (const context of contexts) {
              const alone = await attend(arena, config, [context], { ranks: 1, interleave: 1, blockSize: 12 }, random);
              const range = [token, token + context.queries] as const;
              token += context.queries;
              for (const name of ["out", "lse"] as const) {
                const rows = together[name].slice(0, ...range).clone(arena);
                expect(bits(rows)).toEqual(bits(alone[name]));
              }
              const bounds = together.bounds.slice(1, ...range).clone(arena);
              expect(bits(bounds)).toEqual(bits(alone.bounds));
            }
            const allFinite =
              together.out.toNumbers().every(Number.isFinite) && together.lse.toNumbers().every(Number.isFinite);
            if (config.dtype === "i8" || special === "none") expect(allFinite).toBe(true);
          } finally {
            arena.close();
          }
        },
      ),
      { numRuns: 12, seed: 7 },
    );
  });
});
