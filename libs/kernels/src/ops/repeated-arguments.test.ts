// Ops whose operands on the GPU come again are not checked and recorded anew: what may have changed is still seen.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";
import { GpuTensor } from "../gpu-tensor.ts";
import { RepeatedArguments } from "./repeated-arguments.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(32 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());

function missing(): never {
  throw new Error("there is no such thing");
}

/** A tensor on the GPU that holds what a sine does, from somewhere on. */
function onGpu(dtype: "f32" | "f16", shape: readonly number[], from = 0): GpuTensor {
  const made = backend.empty(dtype, shape);
  fill(made, from);
  return made instanceof GpuTensor ? made : missing();
}

function fill(target: ReturnType<typeof backend.empty>, from: number): void {
  const numbers = Array.from({ length: target.size }, (_, at) => Math.sin(at * 1.3 + from));
  const source = Tensor.from(heap, target.dtype, target.shape, numbers);
  void backend.upload(source, target);
  source.free();
}

async function numbersOf(operand: GpuTensor): Promise<number[]> {
  const down = Tensor.empty(heap, operand.dtype, operand.shape);
  await backend.download(operand, down);
  const numbers = [...down.toNumbers()];
  down.free();
  return numbers;
}

/** The same place by another object, which nobody has seen. */
function another({ memory, dtype, shape, strides, elementOffset }: GpuTensor): GpuTensor {
  return new GpuTensor(memory, dtype, shape, strides, elementOffset, () => undefined);
}

describe("arguments come again", () => {
  const [one, other] = [onGpu("f32", [2]), onGpu("f32", [2])];
  const base = { a: one, list: [one, other], numbers: [1, 2], word: "e", group: { size: 2, offset: 0 } };
  const found = (noted: object, given: object, without?: string): boolean => {
    const known = new RepeatedArguments<string>(without);
    known.note(one, [noted], () => "known");
    return known.find(one, [given]) === "known";
  };

  test.each([
    ["the same", { ...base }, true],
    ["with what was left out given as undefined", { ...base, more: undefined }, true],
    ["in another order", Object.fromEntries(Object.entries(base).reverse()), true],
    ["with equal lists and objects", { ...base, numbers: [1, 2], group: { offset: 0, size: 2 } }, true],
    ["with another tensor", { ...base, a: other }, false],
    ["with another view of the same place", { ...base, a: another(one) }, false],
    ["with tensors in another order", { ...base, list: [other, one] }, false],
    ["with fewer tensors", { ...base, list: [one] }, false],
    ["with another number", { ...base, numbers: [1, 3] }, false],
    ["with another word", { ...base, word: "2" }, false],
    ["with another field of an object", { ...base, group: { size: 2, offset: 1 } }, false],
    ["with a field that is missing", { ...base, group: { size: 2 } }, false],
    ["with one more", { ...base, more: 1 }, false],
    ["with one less", { a: one, list: [one, other] }, false],
    ["with -0 for 0", { ...base, group: { size: 2, offset: -0 } }, false],
  ] as const)("%s", (_, given, isKnown) => {
    expect(found(base, given)).toBe(isKnown);
  });

  test("what was noted is a copy: who changes lists in place is seen", () => {
    const [slots, numbers, group] = [Int32Array.of(3, 4), [1, 2], { size: 1 }];
    const args = { a: one, slots, numbers, group };
    const known = new RepeatedArguments<string>();
    known.note(one, [args], () => "known");
    expect(known.find(one, [args])).toBe("known");
    for (const change of [() => slots.fill(9), () => numbers.push(1), () => Object.assign(group, { size: 7 })]) {
      known.note(one, [args], () => "known");
      change();
      expect(known.find(one, [args])).toBeUndefined();
    }
  });

  test("nothing is noted of what can change unseen, and nothing found of what was freed", () => {
    const inHeap = Tensor.zeros(heap, "f32", [2, 1]);
    const joined = backend.join?.([inHeap, inHeap]) ?? missing();
    for (const value of [inHeap, [inHeap], joined, new Float32Array(2), new Map(), () => 1]) {
      expect(found({ a: one, value }, { a: one, value })).toBe(false);
    }
    const short = onGpu("f32", [2]);
    const known = new RepeatedArguments<string>();
    known.note(one, [{ a: one, short }], () => "known");
    expect(known.find(one, [{ a: one, short }])).toBe("known");
    short.free();
    expect(known.find(one, [{ a: one, short }])).toBeUndefined();
    inHeap.free();
  });

  test("one argument may be another each time", () => {
    expect(found({ ...base, plan: 1 }, { ...base, plan: 2 }, "plan")).toBe(true);
    expect(found({ ...base, plan: 1 }, base, "plan")).toBe(true);
  });
});

test("ops together that come again read what lies there then, and go to the slots that are given then", async () => {
  const together = backend.together ?? missing();
  const [outs, lses] = [onGpu("f32", [2, 3, 4, 8]), onGpu("f32", [2, 3, 4])];
  const at = (tensor: GpuTensor, state: number): GpuTensor => {
    const view = tensor.slice(0, state, state + 1);
    return new GpuTensor(view.memory, "f32", view.shape.slice(1), undefined, view.elementOffset, () => undefined);
  };
  const merge = { outs: [at(outs, 0), at(outs, 1)], lses: [at(lses, 0), at(lses, 1)], out: onGpu("f32", [3, 4, 8]) };
  const [key, keyCache, slotMapping] = [onGpu("f16", [2, 1, 8]), onGpu("f16", [4, 1, 1, 8]), Int32Array.of(0, 1)];
  const write = { key, keyCache, slotMapping };
  for (let round = 0; round < 4; round++) {
    fill(outs, round);
    fill(lses, 2 * round);
    fill(key, round);
    fill(keyCache, 99);
    slotMapping.set([round, (round + 2) % 4]);
    await backend.batch(() => {
      expect(together.run("mergeAttnStates", [merge])).toEqual([undefined]);
      expect(together.run("writeKvCache", [write])).toEqual([undefined]);
    });
    const [fresh, cache] = [onGpu("f32", [3, 4, 8]), onGpu("f16", [4, 1, 1, 8], 99)];
    await backend.mergeAttnStates({ ...merge, out: fresh });
    await backend.writeKvCache({ ...write, keyCache: cache });
    expect(await numbersOf(merge.out)).toEqual(await numbersOf(fresh));
    expect(await numbersOf(keyCache)).toEqual(await numbersOf(cache));
    fresh.free();
    cache.free();
  }
  merge.out.free();
  let outcome: { readonly error: unknown } | undefined;
  await backend.batch(() => {
    [outcome] = together.run("mergeAttnStates", [merge]);
  });
  expect(outcome?.error).toBeInstanceOf(UseAfterFree);
});

test("attention over operands that come again takes each step's plan, and refuses what is wrong with it", async () => {
  const [query, keyCache, valueCache] = [
    onGpu("f16", [2, 4, 16]),
    onGpu("f16", [6, 4, 2, 16], 3),
    onGpu("f16", [6, 4, 2, 16], 8),
  ];
  const [out, lse] = [onGpu("f32", [2, 4, 16]), onGpu("f32", [2, 4])];
  const blockTable = Tensor.from(heap, "i32", [2, 3], [0, 1, 2, 3, 4, 5]);
  const planOf = (positions: number[], size = { numBlocks: 6, blockSize: 4 }) =>
    backend.planAttention({ blockTable, sequences: positions.map((_, row) => row), positions }, size);
  const operands = { query, keyCache, valueCache, scale: 0.3, out, lse };
  for (const positions of [
    [0, 3],
    [11, 5],
    [-1, 8],
    [0, 3],
  ]) {
    fill(query, positions[0] ?? 0);
    const plan = planOf(positions);
    await backend.partialAttention({ ...operands, plan });
    const [freshOut, freshLse] = [onGpu("f32", [2, 4, 16]), onGpu("f32", [2, 4])];
    const fresh = { query: another(query), keyCache: another(keyCache), valueCache: another(valueCache) };
    await backend.partialAttention({ ...operands, ...fresh, plan, out: freshOut, lse: freshLse });
    expect(await numbersOf(out)).toEqual(await numbersOf(freshOut));
    expect(await numbersOf(lse)).toEqual(await numbersOf(freshLse));
    plan.free();
    expect(() => backend.partialAttention({ ...operands, plan })).toThrow(UseAfterFree);
    freshOut.free();
    freshLse.free();
  }
  const wrong = [
    planOf([1]),
    planOf([1, 2], { numBlocks: 7, blockSize: 4 }),
    planOf([1, 1], { numBlocks: 6, blockSize: 2 }),
  ];
  for (const plan of wrong) {
    expect(() => backend.partialAttention({ ...operands, plan })).toThrow(ArgumentError);
    plan.free();
  }
  const plan = planOf([1, 2]);
  const positions = [1, 2];
  expect(() => backend.partialAttention({ ...operands, plan, positions } as never)).toThrow(ArgumentError);
  expect(() => backend.partialAttention({ ...operands, plan, scale: Number.NaN })).toThrow(ArgumentError);
  keyCache.free();
  expect(() => backend.partialAttention({ ...operands, plan })).toThrow(UseAfterFree);
  plan.free();
});
