import { afterAll, expect, test } from "bun:test";
import { Arena, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import { BackendClosed } from "../errors.ts";
import { ATTENTION_ROWS, buildAttention, type HeapPartialAttentionArgs } from "../ops/partial-attention/cases.ts";
import { WRITE_KV_CACHE_CASES } from "../ops/write-kv-cache/cases.ts";
import { SlotPlan } from "../ops/write-kv-cache/slot-plan.ts";
import { expectSameBits } from "../testing/close.ts";
import { Random } from "../testing/random.ts";
import { openBackend } from "./open-backend.ts";

const heap = SharedHeap.create(256 << 20);
const backend = await openBackend("wasm", { heap });
afterAll(() => backend.close());

function prepared() {
  if (backend.prepared === undefined) throw new Error("the wasm backend prepares ops");
  return backend.prepared;
}

/** The step of some arguments as a plan, and the rest of them. */
function planned(args: HeapPartialAttentionArgs) {
  const { blockTable, sequences, positions, shard, segments, window, ...operands } = args;
  const step = {
    blockTable,
    sequences,
    positions,
    ...(shard === undefined ? {} : { shard }),
    ...(segments === undefined ? {} : { segments }),
    ...(window === undefined ? {} : { window }),
  };
  const size = { numBlocks: args.keyCache.dim(0), blockSize: args.keyCache.dim(1) };
  return { operands, plan: (ends: ArrayLike<number>) => backend.planAttention({ ...step, positions: ends }, size) };
}

const CASES = ATTENTION_ROWS.map((row, index) => [index, row] as const);

test.each(CASES)("attention case %d: prepared once, the bits of the op in every step", (index, row) => {
  const arena = new Arena(heap, 24 << 20);
  const random = new Random(index + 1);
  const args = buildAttention(arena, row, random);
  const { operands, plan } = planned(args);
  using first = plan(args.positions);
  const [out, lse] = [Tensor.empty(arena, "f32", args.out.shape), Tensor.empty(arena, "f32", args.lse.shape)];
  const known = prepared().prepareAttention({ ...operands, plan: first, out, lse });
  if (args.query.size === 0) {
    expect(known).toBeUndefined();
    arena.close();
    return;
  }
  if (known === undefined) throw new Error("everything lies in one memory");
  for (let step = 0; step < 3; step++) {
    // Each step pads other rows, and finds scratch memory that another op has used, or moved.
    using current = plan(
      Array.from(args.positions, (position) => (step > 0 && random.integer(3) === 0 ? -1 : position)),
    );
    args.out.fill(Number.NaN);
    out.fill(Number.NaN);
    void backend.partialAttention({ ...operands, plan: current });
    known.attend(current);
    expectSameBits("out", out, args.out);
    expectSameBits("lse", lse, args.lse);
  }
  known.free();
  known.free();
  expect(() => known.attend(first)).toThrow("freed");
  arena.close();
});

test.each(WRITE_KV_CACHE_CASES.map((row) => [row.name, row] as const))(
  "write-kv-cache %s: prepared once, the bytes of the op",
  (_, { build }) => {
    const arena = new Arena(heap, 24 << 20);
    const args = build(arena);
    const size = { numBlocks: args.keyCache.dim(0), blockSize: args.keyCache.dim(1) };
    if (SlotPlan.isPlan(args.slotMapping)) throw new Error("the cases have lists");
    const mappings = [Array.from(args.slotMapping).reverse(), args.slotMapping];
    const slots = new SlotPlan(args.slotMapping, size);
    const caches = [args.keyCache, args.valueCache, args.keyScaleCache, args.valueScaleCache].filter(
      (cache) => cache instanceof Tensor,
    );
    const known = prepared().prepareWrite({ ...args, slotMapping: slots });
    if (known === undefined) throw new Error("everything lies in one memory");
    for (const mapping of mappings) {
      for (const cache of caches) cache.fill(0);
      void backend.writeKvCache({ ...args, slotMapping: mapping });
      const expected = caches.map((cache) => cache.clone(arena));
      for (const cache of caches) cache.fill(0);
      known.write(new SlotPlan(mapping, size));
      for (const [at, cache] of caches.entries()) expectSameBits("cache", cache, expected[at] ?? cache);
    }
    known.free();
    expect(() => known.write(slots)).toThrow("freed");
    arena.close();
  },
);

/** One query token over two keys in a cache of two blocks. */
function small(memory: SharedHeap, heads = 2) {
  const empty = (...shape: number[]): Tensor => Tensor.zeros(memory, "f32", shape);
  const size = { numBlocks: 2, blockSize: 4 };
  const blockTable = Tensor.from(memory, "i32", [1, 2], [0, 1]);
  const step = (tokens: number) => ({
    blockTable,
    sequences: new Array<number>(tokens).fill(0),
    positions: new Array<number>(tokens).fill(1),
  });
  const operands = {
    query: empty(1, heads, 4),
    keyCache: empty(2, 4, 1, 4),
    valueCache: empty(2, 4, 1, 4),
    out: empty(1, heads, 4),
    lse: empty(1, heads),
  };
  const rows = { key: empty(1, 1, 4), value: empty(1, 1, 4) };
  return { size, step, operands, rows };
}

test("refuses other plans and slots, freed operands and a closed backend, and writes nothing then", async () => {
  const own = SharedHeap.create(8 << 20);
  const other = await openBackend("wasm", { heap: own });
  const { size, step, operands, rows } = small(own);
  const ops = other.prepared ?? prepared();
  const plan = other.planAttention(step(1), size);
  const attention = ops.prepareAttention({ ...operands, plan });
  const { keyCache, valueCache, out } = operands;
  const write = ops.prepareWrite({ ...rows, keyCache, valueCache, slotMapping: new SlotPlan([3], size) });
  if (attention === undefined || write === undefined) throw new Error("everything lies in one memory");
  out.fill(7);
  const before = out.f32.slice();
  using two = other.planAttention(step(2), size);
  using larger = other.planAttention(step(1), { numBlocks: 3, blockSize: 4 });
  for (const wrong of [two, larger]) expect(() => attention.attend(wrong)).toThrow("partialAttention");
  for (const wrong of [new SlotPlan([1, 2], size), new SlotPlan([1], { numBlocks: 2, blockSize: 8 })]) {
    expect(() => write.write(wrong)).toThrow("writeKvCache");
  }
  rows.key.free();
  expect(() => write.write(new SlotPlan([3], size))).toThrow("`key`");
  operands.query.free();
  expect(() => attention.attend(plan)).toThrow("`query`");
  plan.free();
  expect(() => attention.attend(plan)).toThrow("plan");
  expect(out.f32).toEqual(before);
  await other.close();
  expect(() => attention.attend(two)).toThrow(BackendClosed);
  expect(() => write.write(new SlotPlan([3], size))).toThrow(BackendClosed);
});

/** A step over a cache whose rows have scales, with sinks, and rows to store there: every operand there is. */
function complete(memory: SharedHeap) {
  const { size, step, operands, rows } = small(memory);
  const bytes = (): Tensor => Tensor.zeros(memory, "i8", [2, 4, 1, 4]);
  const scales = (): Tensor => Tensor.zeros(memory, "f32", [2, 4, 1, 1]).fill(1);
  const caches = { keyCache: bytes(), valueCache: bytes(), keyScaleCache: scales(), valueScaleCache: scales() };
  const sinks = Tensor.from(memory, "f32", [2], [1, 2]);
  return { size, step, attention: { ...operands, ...caches, sinks }, write: { ...rows, ...caches } };
}

const READ = ["query", "keyCache", "valueCache", "keyScaleCache", "valueScaleCache", "sinks", "out", "lse"] as const;

test.each(READ)("refuses to attend once `%s` was freed, by its name, and writes nothing then", (name) => {
  const { size, step, attention } = complete(heap);
  using plan = backend.planAttention(step(1), size);
  const known = prepared().prepareAttention({ ...attention, plan });
  if (known === undefined) throw new Error("everything lies in one memory");
  known.attend(plan);
  attention.out.fill(7);
  attention.lse.fill(7);
  const before = [attention.out.f32.slice(), attention.lse.f32.slice()];
  attention[name].free();
  expect(() => known.attend(plan)).toThrow(`\`${name}\``);
  expect(() => known.attend(plan)).toThrow(UseAfterFree);
  if (name !== "out") expect(attention.out.f32).toEqual(before[0] ?? new Float32Array());
  if (name !== "lse") expect(attention.lse.f32).toEqual(before[1] ?? new Float32Array());
  known.free();
});

const STORED = ["key", "value", "keyCache", "valueCache", "keyScaleCache", "valueScaleCache"] as const;

test.each(STORED)("refuses to store once `%s` was freed, by its name, and writes nothing then", (name) => {
  const { size, write } = complete(heap);
  const known = prepared().prepareWrite({ ...write, slotMapping: new SlotPlan([3], size) });
  if (known === undefined) throw new Error("everything lies in one memory");
  known.write(new SlotPlan([3], size));
  const caches = Object.entries(write).filter(([argument]) => argument !== name && argument.endsWith("Cache"));
  for (const [, cache] of caches) cache.fill(7);
  write[name].free();
  expect(() => known.write(new SlotPlan([3], size))).toThrow(`\`${name}\``);
  expect(() => known.write(new SlotPlan([3], size))).toThrow(UseAfterFree);
  for (const [, cache] of caches) expect(cache.toNumbers().every((value) => value === 7)).toBe(true);
  known.free();
});

test("reads sinks at every step, and refuses those that are no numbers", () => {
  const { size, step, operands } = small(heap);
  // Every other element, as a caller may keep them.
  const sinks = Tensor.zeros(heap, "f32", [2, 2]).select(1, 1);
  const [out, lse] = [Tensor.empty(heap, "f32", [1, 2, 4]), Tensor.empty(heap, "f32", [1, 2])];
  operands.valueCache.fill(1);
  using plan = backend.planAttention(step(1), size);
  const known = prepared().prepareAttention({ ...operands, sinks, plan, out, lse });
  const seen = new Set<number>();
  for (const numbers of [
    [0, 0],
    [3, -2],
    [Number.NEGATIVE_INFINITY, 1],
  ]) {
    sinks.set(numbers);
    void backend.partialAttention({ ...operands, sinks, plan });
    known?.attend(plan);
    expectSameBits("out", out, operands.out);
    expectSameBits("lse", lse, operands.lse);
    seen.add(lse.f32[0] ?? 0);
  }
  expect(seen.size).toBe(3);
  sinks.set([0, Number.NaN]);
  out.fill(7);
  expect(() => known?.attend(plan)).toThrow("`sinks[1]`");
  expect(out.f32).toEqual(new Float32Array(8).fill(7));
  known?.free();
});

/** Takes all memory of a heap that is free, and fills it. */
function takeRest(memory: SharedHeap): Tensor[] {
  const taken: Tensor[] = [];
  for (let bytes = memory.largestFreeBytes; bytes >= 128; bytes = memory.largestFreeBytes) {
    taken.push(Tensor.empty(memory, "f32", [bytes >> 2]).fill(5));
  }
  return taken;
}

test("works in the scratch memory that there is, when another op has moved it", async () => {
  const own = SharedHeap.create(2 << 20);
  const other = await openBackend("wasm", { heap: own });
  const { size, step, operands } = small(own);
  const { query, keyCache, valueCache, out, lse } = operands;
  for (const [seed, operand] of [query, keyCache, valueCache].entries()) {
    operand.set(new Random(seed).normals(operand.size));
  }
  using plan = other.planAttention(step(1), size);
  const known = other.prepared?.prepareAttention({ ...operands, plan });
  const before = own.usedBytes;
  known?.attend(plan);
  const scratchBytes = own.usedBytes - before;
  const expected = [out.clone(own), lse.clone(own)] as const;
  const key = Tensor.zeros(own, "f32", [scratchBytes, 1, 4]);
  const used = own.usedBytes;
  void other.writeKvCache({ key, keyCache, slotMapping: new Array<number>(scratchBytes).fill(-1) });
  expect(own.usedBytes).toBeGreaterThan(used);
  // Whoever takes what was scratch memory keeps what is there.
  const others = takeRest(own);
  known?.attend(plan);
  expectSameBits("out", out, expected[0]);
  expectSameBits("lse", lse, expected[1]);
  for (const taken of others) expect(taken.f32.every((value) => value === 5)).toBe(true);
  await other.close();
});

test("takes the memory of other ops' copies for its scratch when there is no other, and leaves its own", async () => {
  const shared = SharedHeap.create(8 << 20);
  const ownHeap = SharedHeap.create(1 << 20);
  const apart = await openBackend("wasm", { heap: shared, ownHeap });
  const { size, step, operands } = small(ownHeap, 64);
  using plan = apart.planAttention(step(1), size);
  const known = apart.prepared?.prepareAttention({ ...operands, plan });
  if (known === undefined) throw new Error("everything lies in one memory");
  const keyCache = apart.empty("f32", [1, 1, 1, 65_536]);
  // A large copy, and little scratch memory.
  void apart.writeKvCache({ key: Tensor.zeros(shared, "f32", [1, 1, 65_536]), keyCache, slotMapping: [0] });
  takeRest(ownHeap);
  known.attend(plan);
  expect(operands.lse.f32[63]).toBeCloseTo(Math.log(2), 5);
  takeRest(ownHeap);
  known.attend(plan);
  await apart.close();
});

test("refuses a step that was not planned", () => {
  const { step, operands } = small(heap);
  const unplanned = { ...operands, ...step(1), plan: undefined };
  expect(() => prepared().prepareAttention(unplanned as never)).toThrow("`plan` must be what planAttention returned");
});

test("prepares nothing whose operands would have to be copied between memories", async () => {
  const shared = SharedHeap.create(8 << 20);
  const ownHeap = SharedHeap.create(8 << 20);
  const apart = await openBackend("wasm", { heap: shared, ownHeap });
  const far = small(shared);
  const near = small(ownHeap);
  using plan = apart.planAttention(near.step(1), near.size);
  const { keyCache, valueCache } = near.operands;
  const slotMapping = new SlotPlan([0], near.size);
  expect(apart.prepared?.prepareAttention({ ...near.operands, plan })).toBeDefined();
  for (const name of ["query", "out", "lse"] as const) {
    const mixed = { ...near.operands, [name]: far.operands[name], plan };
    expect(apart.prepared?.prepareAttention(mixed)).toBeUndefined();
  }
  expect(apart.prepared?.prepareWrite({ ...near.rows, keyCache, valueCache, slotMapping })).toBeDefined();
  expect(
    apart.prepared?.prepareWrite({ ...near.rows, key: far.rows.key, keyCache, valueCache, slotMapping }),
  ).toBeUndefined();
  await apart.close();
});
