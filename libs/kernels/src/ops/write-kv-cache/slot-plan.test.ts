import { expect, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "../../backends/open-backend.ts";
import { AttentionPlan } from "../partial-attention/attention-plan.ts";
import { SlotPlan } from "./slot-plan.ts";

const SIZE = { numBlocks: 2, blockSize: 4 };

test("what a plan was made from may change, and its slots are copies", async () => {
  const heap = SharedHeap.create(1 << 20);
  await using backend = await openBackend("wasm", { heap });
  const slotMapping = [5, -1, 0];
  const plan = new SlotPlan(slotMapping, SIZE);
  slotMapping.fill(99);
  plan.slots.fill(99);
  expect([...plan.slots]).toEqual([5, -1, 0]);
  const key = Tensor.from(heap, "f32", [3, 1, 1], [1, 2, 3]);
  const keyCache = Tensor.zeros(heap, "f32", [2, 4, 1, 1]);
  for (let layer = 0; layer < 2; layer++) {
    keyCache.fill(0);
    backend.writeKvCache({ key, keyCache, slotMapping: plan });
    expect([...keyCache.toNumbers()]).toEqual([3, 0, 0, 0, 0, 1, 0, 0]);
  }
});

test("slots that do not fit are refused when they are planned, and plans of others when they are used", async () => {
  for (const [slots, size] of [
    [[8], SIZE],
    [[-2], SIZE],
    [[0.5], SIZE],
    [[1, 1], SIZE],
    [null, SIZE],
    [[0], null],
    [[0], { numBlocks: 2, blockSize: 0 }],
  ]) {
    expect(() => Reflect.construct(SlotPlan, [slots, size])).toThrow(ArgumentError);
  }
  const heap = SharedHeap.create(1 << 20);
  await using backend = await openBackend("reference", { heap });
  const slotMapping = new SlotPlan([3], SIZE);
  const key = Tensor.zeros(heap, "f32", [1, 1, 1]);
  const write = (blocks: number, blockSize: number, tokens = 1) => {
    const keyCache = Tensor.zeros(heap, "f32", [blocks, blockSize, 1, 1]);
    return backend.writeKvCache({
      key: tokens === 1 ? key : Tensor.zeros(heap, "f32", [tokens, 1, 1]),
      keyCache,
      slotMapping,
    });
  };
  write(2, 4);
  write(3, 4);
  expect(() => write(1, 4)).toThrow(ArgumentError);
  expect(() => write(4, 2)).toThrow(ArgumentError);
  expect(() => write(2, 4, 2)).toThrow(ArgumentError);
});

test("what only inherits from a plan, or stands for one, is none", async () => {
  const heap = SharedHeap.create(1 << 20);
  await using backend = await openBackend("wasm", { heap });
  const tensor = (...shape: number[]): Tensor => Tensor.zeros(heap, "f32", shape);
  const keyCache = tensor(2, 4, 1, 1);
  const slotPlan = new SlotPlan([0], SIZE);
  for (const slotMapping of [Object.create(SlotPlan.prototype), new Proxy(slotPlan, {})]) {
    const written = { key: tensor(1, 1, 1), keyCache, slotMapping } as never;
    expect(() => backend.writeKvCache(written)).toThrow(ArgumentError);
  }
  const blockTable = Tensor.zeros(heap, "i32", [1, 2]);
  using attentionPlan = backend.planAttention({ blockTable, sequences: [0], positions: [3] }, SIZE);
  for (const plan of [Object.create(AttentionPlan.prototype), new Proxy(attentionPlan, {})]) {
    const operands = {
      query: tensor(1, 1, 1),
      keyCache,
      valueCache: keyCache,
      out: tensor(1, 1, 1),
      lse: tensor(1, 1),
    };
    expect(() => backend.partialAttention({ plan, ...operands } as never)).toThrow(ArgumentError);
  }
});
