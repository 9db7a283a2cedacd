// A step that was planned gives what the same step gives when it is checked in the call, on every layer that it is run
// on.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, ArgumentError, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import { expectSameBits } from "../../testing/close.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import type { AttentionPlan, AttentionStep } from "./attention-plan.ts";
import { type HeapPartialAttentionArgs, PARTIAL_ATTENTION_CASES } from "./cases.ts";

setDefaultTimeout(240_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

/** The parts of a call that are the same on every layer, in lists that may be changed, and the others. */
function parts(args: HeapPartialAttentionArgs) {
  const { blockTable, sequences, positions, shard, segments, window, ...operands } = args;
  const step = {
    blockTable,
    sequences: Array.from(sequences),
    positions: Array.from(positions),
    ...(shard === undefined ? {} : { shard }),
    ...(segments === undefined ? {} : { segments: segments.map((segment) => ({ ...segment })) }),
    ...(window === undefined ? {} : { window }),
  } satisfies AttentionStep;
  const [numBlocks = 0, blockSize = 0] = args.keyCache.shape;
  return { step, operands, size: { numBlocks, blockSize } };
}

for (const backend of backends) {
  describe(`a plan on ${backend.name}`, () => {
    test("gives every case's bits, whatever becomes of what it was made from", async () => {
      const arena = new Arena(heap, 16 << 20);
      // GPUs compile for a while: `partial-attention.test.ts` runs every case planned as well.
      const cases = backend.name === "webgpu" ? PARTIAL_ATTENTION_CASES.slice(0, 4) : PARTIAL_ATTENTION_CASES;
      for (const { name, build } of cases) {
        const args = build(arena);
        await backend.partialAttention(args);
        const [out, lse] = [args.out.clone(arena), args.lse.clone(arena)];
        const { step, operands, size } = parts(args);
        const used = heap.usedBytes;
        using plan = backend.planAttention(step, size);
        step.blockTable.fill(-99);
        step.sequences.fill(-99);
        step.positions.fill(-99);
        for (let layer = 0; layer < 2; layer++) {
          args.out.fill(Number.NaN);
          args.lse.fill(Number.NaN);
          await backend.partialAttention({ ...operands, plan });
          expectSameBits(`out of ${name}`, args.out, out);
          expectSameBits(`lse of ${name}`, args.lse, lse);
        }
        plan.free();
        expect(heap.usedBytes).toBe(used);
        arena.reset();
      }
      arena.close();
    });

    test("is refused when it was freed, is none, is of other caches or another step, or comes with a step", async () => {
      const arena = new Arena(heap, 1 << 20);
      const f32 = (...shape: number[]): Tensor => Tensor.zeros(arena, "f32", shape);
      const blockTable = Tensor.from(arena, "i32", [1, 2], [1, 0]);
      const step = { blockTable, sequences: [0], positions: [5] };
      using plan = backend.planAttention(step, { numBlocks: 2, blockSize: 4 });
      const keyCache = f32(2, 4, 1, 4);
      const good = { query: f32(1, 1, 4), keyCache, valueCache: f32(2, 4, 1, 4), out: f32(1, 1, 4), lse: f32(1, 1) };
      await backend.partialAttention({ ...good, plan });
      const two = { query: f32(2, 1, 4), out: f32(2, 1, 4), lse: f32(2, 1) };
      const wrong: readonly (readonly [args: object, error: unknown, named: string])[] = [
        [{ plan: null }, ArgumentError, "plan"],
        [{ plan: { visible: plan.visible, step } }, ArgumentError, "plan"],
        [{ plan, keyCache: f32(1, 4, 1, 4), valueCache: f32(1, 4, 1, 4) }, ArgumentError, "keyCache"],
        [{ plan, keyCache: f32(4, 2, 1, 4), valueCache: f32(4, 2, 1, 4) }, ArgumentError, "keyCache"],
        [{ plan, ...two }, ArgumentError, "query"],
        [{ plan, blockTable }, ArgumentError, "blockTable"],
        [{ plan, positions: [5] }, ArgumentError, "positions"],
        [{ plan, window: 3 }, ArgumentError, "window"],
        [{ plan, shard: { index: 0, count: 1, interleave: 1 } }, ArgumentError, "shard"],
      ];
      const attend = (args: object): unknown =>
        Reflect.apply(backend.partialAttention, backend, [{ ...good, ...args }]);
      for (const [args, error, named] of wrong) {
        good.out.fill(7);
        expect(() => attend(args)).toThrow(error as typeof ArgumentError);
        expect(() => attend(args)).toThrow(named);
        expect([...good.out.toNumbers()]).toEqual([7, 7, 7, 7]);
      }
      plan.free();
      plan.free();
      expect(() => attend({ plan })).toThrow(UseAfterFree);
      arena.close();
    });

    test("is not made of a step that does not fit, and leaves nothing behind", () => {
      const blockTable = Tensor.from(heap, "i32", [2, 2], [1, 0, 0, 1]);
      const good = { blockTable, sequences: [0, 1], positions: [5, 2] };
      const size = { numBlocks: 2, blockSize: 4 };
      const used = heap.usedBytes;
      const plan = (step: unknown, of: unknown): AttentionPlan =>
        Reflect.apply(backend.planAttention, backend, [step, of]);
      for (const [step, of] of [
        [null, size],
        [good, null],
        [good, { ...size, blockSize: 0 }],
        [good, { ...size, numBlocks: 1.5 }],
        [good, { ...size, numBlocks: 1 }],
        [{ ...good, sequences: [0, 2] }, size],
        [{ ...good, sequences: [0] }, size],
        [{ ...good, positions: [5, 8] }, size],
        [{ ...good, positions: [5, -2] }, size],
        [{ ...good, window: 0 }, size],
        [{ ...good, segments: [{ first: 0, count: 8 }] }, size],
        [{ ...good, shard: { index: 2, count: 2, interleave: 1 } }, size],
        [{ ...good, blockTable: [[1, 0]] }, size],
      ]) {
        expect(() => plan(step, of)).toThrow(ArgumentError);
        expect(heap.usedBytes).toBe(used);
      }
      plan(good, size).free();
      expect(heap.usedBytes).toBe(used);
      blockTable.free();
    });
  });
}
