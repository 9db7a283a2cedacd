// A thousand small attentions in the world-invariant mode, and a digest of the bits of each: what the wasm backend must
// give in every runtime, however the keys are dealt. Imports packages alone, so that a page may run it.

import { type AttentionPlan, type KernelBackend, type KvShard, kvOwner, kvSlot, localLength } from "@lockstep/kernels";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";

export const CASES = 1000;
const HEAP_BYTES = 8 << 20;
const SCRATCH_BYTES = 6 << 20;

/** What an attention computes. */
interface DrawnCase {
  readonly kvDtype: DType;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  readonly isLatent: boolean;
  readonly lengths: readonly number[];
  readonly queries: readonly number[];
  readonly window: number | undefined;
  readonly softcap: number | undefined;
  readonly hasSinks: boolean;
  readonly outDtype: DType;
}

/** Integers from a seed (mulberry32): the same in every runtime. */
class Draws {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 8) / 2 ** 24) * bound);
  }

  of<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new RangeError("nothing to draw from");
    return value;
  }

  /** A multiple of 2^-10 from -2 to 2: exact in every dtype's arithmetic before it is rounded. */
  number(): number {
    return (this.below(4097) - 2048) / 1024;
  }

  numbers(count: number): number[] {
    return Array.from({ length: count }, () => this.number());
  }

  /** The integers below `count` in some order. */
  order(count: number): number[] {
    const order = Array.from({ length: count }, (_, at) => at);
    const drawn: number[] = [];
    while (order.length > 0) drawn.push(...order.splice(this.below(order.length), 1));
    return drawn;
  }
}

function drawCase(draws: Draws): DrawnCase {
  const isLatent = draws.below(5) === 0;
  const [queryHeads, kvHeads] = isLatent
    ? ([4, 1] as const)
    : draws.of<readonly [number, number]>([
        [4, 2],
        [3, 3],
        [8, 2],
        [5, 1],
        [4, 4],
      ]);
  const [keyDim, valueDim] = draws.of<readonly [number, number]>([
    [8, 8],
    [16, 12],
    [7, 5],
    [32, 32],
    [12, 1],
    [64, 16],
  ]);
  const lengths = Array.from({ length: 1 + draws.below(3) }, () => 1 + draws.below(draws.of([5, 40, 150])));
  return {
    kvDtype: draws.of<DType>(["f32", "f16", "bf16", "f8e4m3", "i8"]),
    queryHeads,
    kvHeads,
    keyDim,
    valueDim,
    isLatent,
    lengths,
    // The last sequence has at least one.
    queries: lengths.map((length, at) => {
      return Math.min(length, Math.max(at === lengths.length - 1 ? 1 : 0, draws.of([0, 1, 1, 2, 4])));
    }),
    window: draws.below(3) === 0 ? 1 + draws.below(60) : undefined,
    softcap: draws.below(3) === 0 ? 3 : undefined,
    hasSinks: draws.below(3) === 0,
    outDtype: draws.of<DType>(["f32", "f32", "f16", "bf16"]),
  };
}

/** How the keys are dealt, which no bit may tell. */
interface Dealing {
  readonly count: number;
  readonly interleave: number;
  readonly blockSize: number;
  /** Queries of a call. */
  readonly together: number;
}

/**
 * The digests of cases, 16 hexadecimal digits each.
 * @param backend over a heap of {@link openDigestHeap}
 * @param turn keys are dealt, paged and batched in another way in each turn: the digests are the same
 */
export function digestsOf(backend: KernelBackend, heap: SharedHeap, turn: number, first = 0, count = CASES): string[] {
  const scratch = new Arena(heap, SCRATCH_BYTES);
  try {
    return Array.from({ length: count }, (_, at) => {
      scratch.reset();
      return digestOf(backend, scratch, first + at, turn);
    });
  } finally {
    scratch.close();
  }
}

/** The memory for {@link digestsOf}. */
export function openDigestHeap(): SharedHeap {
  return SharedHeap.create(HEAP_BYTES);
}

function digestOf(backend: KernelBackend, scratch: Arena, at: number, turn: number): string {
  const draws = new Draws(7919 * at + 1);
  const drawn = drawCase(draws);
  const { queryHeads, kvHeads, keyDim, valueDim, lengths, queries } = drawn;
  const tokens = queries.reduce((sum, each) => sum + each, 0);
  const rows = lengths.reduce((sum, each) => sum + each, 0);
  const query = Tensor.from(scratch, "f32", [tokens, queryHeads, keyDim], draws.numbers(tokens * queryHeads * keyDim));
  const keys = Tensor.from(scratch, "f32", [rows, kvHeads, keyDim], draws.numbers(rows * kvHeads * keyDim));
  const values = Tensor.from(scratch, "f32", [rows, kvHeads, valueDim], draws.numbers(rows * kvHeads * valueDim));
  const sinks = Tensor.from(scratch, "f32", [queryHeads], draws.numbers(queryHeads));
  const dealer = new Draws(104_729 * turn + at);
  const interleave = 1 + dealer.below(4);
  const dealing: Dealing = {
    count: 1 + dealer.below(8),
    interleave,
    blockSize: interleave * (1 + dealer.below(4)),
    together: 1 + dealer.below(tokens + 1),
  };
  const sequences = queries.flatMap((each, sequence) => new Array<number>(each).fill(sequence));
  const positions = queries.flatMap((each, sequence) => {
    return Array.from({ length: each }, (_, index) => (lengths[sequence] ?? 0) - each + index);
  });
  const bounds = Tensor.empty(scratch, "f32", [3, tokens, queryHeads]).fill(Number.NEGATIVE_INFINITY);
  const sums = Tensor.zeros(scratch, "i32", [tokens, queryHeads, valueDim + 1, 2]);
  const shards = Array.from({ length: dealing.count }, (_, index) => {
    const shard = { index, count: dealing.count, interleave };
    return { ...fill(backend, scratch, drawn, shard, dealing.blockSize, keys, values, dealer), shard };
  });
  for (const pass of ["bounds", "sums"] as const) {
    for (const { cache, blockTable, shard } of shards) {
      for (let from = 0; from < tokens; from += dealing.together) {
        const to = Math.min(tokens, from + dealing.together);
        const plan = backend.planAttention(
          {
            blockTable,
            sequences: sequences.slice(from, to),
            positions: positions.slice(from, to),
            shard,
            ...(drawn.window === undefined ? {} : { window: drawn.window }),
          },
          { numBlocks: cache.keyCache.dim(0), blockSize: dealing.blockSize },
        );
        try {
          attend(pass, plan, shard.index, from, to, cache);
        } finally {
          plan.free();
        }
      }
    }
  }
  const out = Tensor.zeros(scratch, drawn.outDtype, [tokens, queryHeads, valueDim]);
  const lse = Tensor.zeros(scratch, "f32", [tokens, queryHeads]);
  void backend.finishLattice({ bounds, sums, out, lse });
  return digest([out, lse]);

  function attend(
    pass: "bounds" | "sums",
    plan: AttentionPlan,
    shard: number,
    from: number,
    to: number,
    cache: ShardCache,
  ): void {
    const args = {
      ...cache,
      plan,
      query: query.slice(0, from, to),
      ...(drawn.softcap === undefined ? {} : { softcap: drawn.softcap }),
      ...(drawn.hasSinks && shard === 0 ? { sinks } : {}),
    };
    const seen = bounds.slice(1, from, to);
    if (pass === "bounds") {
      void backend.attentionBounds({ ...args, bounds: seen, continues: true });
      return;
    }
    const own = Tensor.zeros(scratch, "i32", [to - from, queryHeads, valueDim + 1, 2]);
    void backend.latticeSums({ ...args, bounds: seen, sums: own });
    const all = sums.slice(0, from, to).i32;
    for (const [index, word] of own.i32.entries()) all[index] = (all[index] ?? 0) + word;
  }
}

interface ShardCache {
  readonly keyCache: Tensor;
  readonly valueCache: Tensor;
  readonly keyScaleCache?: Tensor;
  readonly valueScaleCache?: Tensor;
}

/** A shard's cache, its pages in some order, with what is dealt to it. */
function fill(
  backend: KernelBackend,
  scratch: Arena,
  { kvDtype, kvHeads, keyDim, valueDim, isLatent, lengths }: DrawnCase,
  shard: KvShard,
  blockSize: number,
  keys: Tensor,
  values: Tensor,
  dealer: Draws,
): { readonly cache: ShardCache; readonly blockTable: Tensor } {
  const blocksOf = lengths.map((length) => Math.ceil(localLength(shard, length) / blockSize));
  const width = Math.max(1, ...blocksOf);
  const numBlocks = blocksOf.reduce((sum, each) => sum + each, 1);
  const pages = dealer.order(numBlocks);
  const table = Tensor.zeros(scratch, "i32", [lengths.length, width]);
  const slots: number[] = [];
  for (const [sequence, length] of lengths.entries()) {
    const own = pages.splice(0, blocksOf[sequence] ?? 0);
    for (const [column, page] of own.entries()) table.select(0, sequence).i32[column] = page;
    for (let position = 0; position < length; position++) {
      const isOwn = kvOwner(position, shard.count, shard.interleave) === shard.index;
      slots.push(isOwn ? kvSlot(shard, position, blockSize, own) : -1);
    }
  }
  const empty = (dtype: DType, dim: number): Tensor =>
    Tensor.zeros(scratch, dtype, [numBlocks, blockSize, kvHeads, dim]);
  const keyCache = empty(kvDtype, keyDim);
  const valueCache = isLatent ? keyCache.slice(3, 0, valueDim) : empty(kvDtype, valueDim);
  const isScaled = kvDtype === "f8e4m3" || kvDtype === "i8";
  const keyScaleCache = isScaled ? empty("f32", 1) : undefined;
  const valueScaleCache = isScaled ? (isLatent ? keyScaleCache : empty("f32", 1)) : undefined;
  void backend.writeKvCache({
    key: keys,
    slotMapping: Int32Array.from(slots),
    keyCache,
    ...(isLatent ? {} : { value: values, valueCache }),
    ...(keyScaleCache === undefined ? {} : { keyScaleCache }),
    ...(valueScaleCache === undefined || isLatent ? {} : { valueScaleCache }),
  });
  const scales = keyScaleCache === undefined || valueScaleCache === undefined ? {} : { keyScaleCache, valueScaleCache };
  return { cache: { keyCache, valueCache, ...scales }, blockTable: table };
}

const PRIME = 0x100000001b3n;
const MASK = 0xffffffffffffffffn;

/** FNV-1a of 64 bits over the bytes of tensors. */
function digest(tensors: readonly Tensor[]): string {
  let hash = 0xcbf29ce484222325n;
  for (const { bytes } of tensors) {
    for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * PRIME) & MASK;
  }
  return hash.toString(16).padStart(16, "0");
}
