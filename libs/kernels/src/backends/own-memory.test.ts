import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, ArgumentError, HeapExhausted, SharedHeap, Tensor } from "@lockstep/tensor";
import { CORRECT_ATTN_OUT_CASES } from "../ops/correct-attn-out/cases.ts";
import { ATTENTION_BOUNDS_CASES } from "../ops/attention-bounds/cases.ts";
import { FINISH_LATTICE_CASES } from "../ops/finish-lattice/cases.ts";
import { LATTICE_SUMS_CASES } from "../ops/lattice-sums/cases.ts";
import { MERGE_ATTN_STATES_CASES } from "../ops/merge-attn-states/cases.ts";
import { type OpArguments, type OpName, opResults } from "../ops/op-table.ts";
import { PACK_SEQ_CASES } from "../ops/pack-seq/cases.ts";
import { PARTIAL_ATTENTION_CASES } from "../ops/partial-attention/cases.ts";
import { UNPACK_SEQ_CASES } from "../ops/unpack-seq/cases.ts";
import { WRITE_KV_CACHE_CASES } from "../ops/write-kv-cache/cases.ts";
import { expectSameBits } from "../testing/close.ts";
import type { OpCase } from "../testing/op-case.ts";
import { Random } from "../testing/random.ts";
import type { KernelBackend } from "./backend.ts";
import { openBackend } from "./open-backend.ts";

setDefaultTimeout(120_000);

const CASE_BYTES = 12 << 20;
const one = SharedHeap.create(128 << 20);
const shared = SharedHeap.create(64 << 20);
const own = SharedHeap.create(64 << 20);
const third = SharedHeap.create(64 << 20);
const inOne = await openBackend("wasm", { heap: one });
const inSeveral = await openBackend("wasm", { heap: shared, ownHeap: own });

interface AnyCase {
  readonly name: string;
  readonly build: (arena: Arena) => object;
}

const CASES: { readonly [Name in Exclude<OpName, "gatherKvCache">]: readonly OpCase<OpArguments[Name]>[] } = {
  correctAttnOut: CORRECT_ATTN_OUT_CASES,
  mergeAttnStates: MERGE_ATTN_STATES_CASES,
  packSeq: PACK_SEQ_CASES,
  unpackSeq: UNPACK_SEQ_CASES,
  writeKvCache: WRITE_KV_CACHE_CASES,
  partialAttention: PARTIAL_ATTENTION_CASES,
  attentionBounds: ATTENTION_BOUNDS_CASES,
  latticeSums: LATTICE_SUMS_CASES,
  finishLattice: FINISH_LATTICE_CASES,
};

/** The same view, strides and gaps, of a copy of its bytes in another heap. */
function moved(tensor: Tensor, arena: Arena): Tensor {
  const { dtype, shape, strides, byteOffset, byteEnd } = tensor;
  const bytes = byteEnd - byteOffset;
  // As far from a cache line as it was.
  const at = arena.allocate(bytes + 128) + (byteOffset % 128);
  new Uint8Array(arena.heap.buffer, at, bytes).set(new Uint8Array(tensor.heap.buffer, byteOffset, bytes));
  return Tensor.fromDescriptor({ dtype, shape, strides, heapId: arena.heap.id, byteOffset: at }, arena.heap);
}

/** The same arguments, caches in the first of some memories, every other operand in one of them in turn. */
function spread<Args extends object>(args: Args, arenas: readonly Arena[], turn: number): Args {
  const known = new Map<Tensor, Tensor>();
  let next = turn;
  const place = (tensor: Tensor, isCache: boolean): Tensor => {
    const before = known.get(tensor);
    if (before !== undefined) return before;
    const arena = arenas[isCache ? 0 : next++ % arenas.length];
    if (arena === undefined) throw new Error("no memory");
    const there = moved(tensor, arena);
    known.set(tensor, there);
    return there;
  };
  const entries = Object.entries(args).map(([name, value]) => {
    const isCache = /cache$/i.test(name);
    if (value instanceof Tensor) return [name, place(value, isCache)];
    if (Array.isArray(value) && value.some((part) => part instanceof Tensor)) {
      return [name, value.map((part: unknown) => (part instanceof Tensor ? place(part, isCache) : part))];
    }
    return [name, value];
  });
  return Object.fromEntries(entries) as Args;
}

function runOp(backend: KernelBackend, name: OpName, args: object): void {
  (backend[name] as (given: object) => void)(args);
}

for (const [name, cases] of Object.entries(CASES) as [OpName, readonly AnyCase[]][]) {
  describe(`${name} over operands in several memories is bit for bit what it is in one`, () => {
    for (const [index, item] of cases.entries()) {
      test(item.name, () => {
        const arenas = [one, own, shared, third].map((heap) => new Arena(heap, CASE_BYTES)) as [Arena, ...Arena[]];
        try {
          const [arena, ...others] = arenas;
          const expected = item.build(arena);
          const pristine = spread(expected, others, index);
          const actual = spread(expected, others, index + 1);
          runOp(inOne, name, expected);
          runOp(inSeveral, name, actual);
          const expectedResults = opResults(name, expected as never);
          const results = opResults(name, actual as never);
          for (const [at, result] of results.entries()) {
            const wanted = expectedResults[at];
            if (result instanceof Tensor && wanted instanceof Tensor) expectSameBits(`result ${at}`, result, wanted);
            else expect(result).toBe(wanted);
          }
          for (const [argument, operand] of Object.entries(actual)) {
            if (!(operand instanceof Tensor) || results.includes(operand)) continue;
            expectSameBits(argument, operand, (pristine as Record<string, Tensor>)[argument] ?? operand);
          }
        } finally {
          for (const arena of arenas) arena.close();
        }
      });
    }
  });
}

describe("a backend with a memory of its own", () => {
  const [attention] = PARTIAL_ATTENTION_CASES;
  if (attention === undefined) throw new Error("no case");

  test("takes caches and plans from it, and nothing from the shared one", () => {
    const before = [own.usedBytes, shared.usedBytes];
    const cache = inSeveral.empty("f16", [4, 16, 2, 8]);
    expect((cache as Tensor).heap.id).toBe(own.id);
    expect([own.usedBytes - (before[0] ?? 0), shared.usedBytes]).toEqual([4 * 16 * 2 * 8 * 2, before[1] ?? 0]);
    cache.free();
    expect(own.usedBytes).toBe(before[0] ?? 0);
  });

  test("runs a plan over caches in either memory", () => {
    const arenas = [one, own, shared].map((heap) => new Arena(heap, CASE_BYTES)) as [Arena, Arena, Arena];
    const expected = attention.build(arenas[0]);
    runOp(inOne, "partialAttention", expected);
    for (const arena of [arenas[1], arenas[2]]) {
      const { blockTable, sequences, positions, shard, segments, window, ...operands } = spread(expected, [arena], 0);
      operands.out.fill(Number.NaN);
      operands.lse.fill(Number.NaN);
      const [numBlocks = 0, blockSize = 0] = operands.keyCache.shape;
      const optional = { ...(shard && { shard }), ...(segments && { segments }), ...(window && { window }) };
      const step = { blockTable, sequences, positions, ...optional };
      using plan = inSeveral.planAttention(step, { numBlocks, blockSize });
      inSeveral.partialAttention({ ...operands, plan });
      expectSameBits("out", operands.out, expected.out);
      expectSameBits("lse", operands.lse, expected.lse);
    }
    for (const arena of arenas) arena.close();
  });

  test("gathers rows of its cache into any memory", () => {
    const cache = Tensor.from(own, "f32", [2, 2, 1, 4], new Random(3).normals(16));
    for (const heap of [own, shared, third]) {
      const rows = Tensor.empty(heap, "f32", [3, 1, 4]).fill(Number.NaN);
      inSeveral.gatherKvCache({ cache, slots: [3, 0, 2], rows });
      const wanted = [3, 0, 2].flatMap((slot) => [
        ...cache
          .select(0, slot >> 1)
          .select(0, slot & 1)
          .toNumbers(),
      ]);
      expect([...rows.toNumbers()]).toEqual(wanted);
      rows.free();
    }
    cache.free();
  });

  test("refuses a cache in a memory that is not its own, before anything is written", () => {
    const arena = new Arena(third, CASE_BYTES);
    const args = spread(attention.build(new Arena(one, CASE_BYTES)), [arena], 0);
    args.out.fill(5);
    expect(() => inSeveral.partialAttention(args)).toThrow(ArgumentError);
    expect(() => inSeveral.partialAttention(args)).toThrow(/`keyCache` must be in a memory of this backend/);
    expect(args.out.toNumbers().every((value) => value === 5)).toBe(true);
    arena.close();
  });

  test("without room for copies fails before anything is written, and works again with room", () => {
    const small = SharedHeap.create(1 << 16);
    return openBackend("wasm", { heap: shared, ownHeap: small }).then(async (backend) => {
      const keyCache = backend.empty("f32", [2, 4, 1, 4]);
      const rest = small.allocate(small.largestFreeBytes);
      const key = Tensor.from(shared, "f32", [1, 1, 4], [1, 2, 3, 4]);
      expect(() => backend.writeKvCache({ key, keyCache, slotMapping: [5] })).toThrow(HeapExhausted);
      expect((keyCache as Tensor).toNumbers().every((value) => value === 0)).toBe(true);
      small.release(rest);
      backend.writeKvCache({ key, keyCache, slotMapping: [5] });
      expect([...(keyCache as Tensor).toNumbers()].slice(20, 24)).toEqual([1, 2, 3, 4]);
      await backend.close();
      keyCache.free();
      expect(small.usedBytes).toBe(0);
    });
  });

  test("has room for copies of any size, whatever sizes came before", () => {
    const small = SharedHeap.create(1 << 18);
    return openBackend("wasm", { heap: shared, ownHeap: small }).then(async (backend) => {
      const places = [64, 16, 1, 32];
      const [keyCache, valueCache] = [backend.empty("f16", places), backend.empty("f16", places)];
      const numbers = new Random(5).normals(1024 * 32);
      // There is room for keys and values of 410 tokens, but not where those of 200 leave it.
      for (const tokens of [200, 410, 7, 300, 410]) {
        const key = Tensor.from(shared, "f32", [tokens, 1, 32], numbers.slice(0, tokens * 32));
        const slotMapping = Array.from({ length: tokens }, (_, token) => token);
        backend.writeKvCache({ key, value: key, keyCache, valueCache, slotMapping });
        for (const cache of [keyCache, valueCache] as Tensor[]) {
          const stored = cache.reshape([1024, 1, 32]).slice(0, 0, tokens);
          const wanted = Tensor.empty(shared, "f16", key.shape).copyFrom(key);
          expectSameBits(`${tokens} tokens`, stored, wanted);
          wanted.free();
        }
        key.free();
      }
      const table = Tensor.zeros(shared, "i32", [1, 15_000]);
      const step = { blockTable: table, sequences: [0], positions: [0] };
      using plan = backend.planAttention(step, { numBlocks: 64, blockSize: 16 });
      expect(plan.heap.id).toBe(small.id);
      expect(() => backend.empty("f32", [1 << 20])).toThrow(HeapExhausted);
      table.free();
      plan.free();
      await backend.close();
      keyCache.free();
      valueCache.free();
      expect(small.usedBytes).toBe(0);
    });
  });

  test("computes at the end of a memory of 4 GiB as at its start", () => {
    const far = SharedHeap.create(65535 * 65536);
    // Nothing of it is touched, so that it takes no memory of the machine.
    const skipped = far.allocate(far.totalBytes - (CASE_BYTES + (32 << 20)));
    return openBackend("wasm", { heap: shared, ownHeap: far }).then(async (backend) => {
      for (const [index, item] of PARTIAL_ATTENTION_CASES.entries()) {
        const arenas = [new Arena(one, CASE_BYTES), new Arena(far, CASE_BYTES), new Arena(shared, CASE_BYTES)] as const;
        const expected = item.build(arenas[0]);
        const actual = spread(expected, arenas.slice(1), index);
        expect(actual.keyCache.byteOffset).toBeGreaterThan(0xfc000000);
        runOp(inOne, "partialAttention", expected);
        runOp(backend, "partialAttention", actual);
        expectSameBits(item.name, actual.out, expected.out);
        expectSameBits(item.name, actual.lse, expected.lse);
        for (const arena of arenas) arena.close();
      }
      await backend.close();
      far.release(skipped);
    });
  });
});
