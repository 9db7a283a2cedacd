// Ops that share dispatches: the bits of each alone, whatever lies where, and fewer dispatches.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";
import type { MergeAttnStatesArgs } from "../ops/merge-attn-states/index.ts";
import type { WriteKvCacheArgs } from "../ops/write-kv-cache/index.ts";
import { countDispatches } from "../testing/count-dispatches.ts";
import type { OpsTogether } from "./ops-together.ts";
import { openWebgpuBackend } from "./webgpu-backend.ts";

setDefaultTimeout(300_000);

const heap = SharedHeap.create(64 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());
const together: OpsTogether = backend.together ?? missing();

function missing(): never {
  throw new Error("there is no such thing");
}

const owned: Operand[] = [];
function own<T extends Operand>(operand: T): T {
  owned.push(operand);
  return operand;
}

function values(dtype: DType, shape: readonly number[], seed: number): Tensor {
  const size = shape.reduce((product, count) => product * count, 1);
  return own(
    Tensor.from(
      heap,
      dtype,
      shape,
      Array.from({ length: size }, (_, at) => Math.sin(at * 1.7 + seed)),
    ),
  );
}

type Place = "heap" | "GPU" | "one for all";
const place = fc.constantFrom<Place>("heap", "GPU", "one for all");
const few = (...numbers: number[]): fc.Arbitrary<number> => fc.constantFrom(...numbers);

/** Operands of several ops, each in memory of its own or all in one piece, with what lies there at first. */
function placed(where: Place, tensors: readonly Tensor[]): Operand[] {
  if (where === "heap") return tensors.map((tensor) => own(tensor.clone(heap)));
  const up = (tensor: Tensor): Operand => {
    const made = own(backend.empty(tensor.dtype, tensor.shape));
    void backend.upload(tensor, made);
    return made;
  };
  if (where === "GPU") return tensors.map(up);
  const flat = tensors.flatMap((tensor) => [...tensor.toNumbers()]);
  const [first] = tensors;
  if (first === undefined) return [];
  const whole = up(own(Tensor.from(heap, first.dtype, [flat.length], flat)));
  let at = 0;
  return tensors.map(({ dtype, shape, size }) => {
    at += size;
    const memory = whole instanceof GpuTensor ? whole.memory : missing();
    return new GpuTensor(memory, dtype, shape, undefined, at - size, () => undefined);
  });
}

async function bytesOf(operand: Operand): Promise<Uint8Array> {
  if (operand.place === "heap") return operand.contiguous(heap).bytes.slice();
  const down = own(Tensor.empty(heap, operand.dtype, operand.shape));
  await backend.download(operand, down);
  return down.bytes.slice();
}

/** Runs ops one by one and together, from the same contents; both leave the same bits. Returns the dispatches. */
async function compare<Name extends "mergeAttnStates" | "writeKvCache">(
  name: Name,
  list: () => readonly { readonly args: Parameters<(typeof backend)[Name]>[0]; readonly results: readonly Operand[] }[],
): Promise<{ alone: number; together: number }> {
  const [alone, shared] = [list(), list()];
  const op = backend[name].bind(backend) as (args: unknown) => Promise<void> | undefined;
  const counts = {
    alone: await countDispatches(async () => {
      await backend.batch(() => {
        for (const { args } of alone) void op(args);
      });
      for (const { results } of alone) for (const result of results) await bytesOf(result);
    }),
    together: await countDispatches(async () => {
      await backend.batch(() => {
        const outcomes = together.run(name, shared.map(({ args }) => args) as never);
        expect(outcomes).toEqual(shared.map(() => undefined));
      });
      for (const { results } of shared) for (const result of results) await bytesOf(result);
    }),
  };
  for (const [index, { results }] of alone.entries()) {
    for (const [at, result] of results.entries()) {
      const other = shared[index]?.results[at] ?? missing();
      expect(await bytesOf(other)).toEqual(await bytesOf(result));
    }
  }
  for (const operand of owned.splice(0)) operand.free();
  return counts;
}

const merge = fc.record({ tokens: few(1, 3), heads: few(1, 2, 5), dim: few(4, 7, 8), states: few(1, 3) });
const merges = fc.record({
  shapes: fc.oneof(
    fc.array(merge, { minLength: 1, maxLength: 7 }),
    merge.chain((one) => fc.array(fc.constant(one), { minLength: 2, maxLength: 9 })),
  ),
  from: fc.constantFrom<"f32" | "f16">("f32", "f16"),
  to: fc.constantFrom<"f32" | "f16" | "bf16">("f32", "f16", "bf16"),
  states: place,
  results: place,
  withLse: fc.boolean(),
});

function mergesOf({
  shapes,
  from,
  to,
  states,
  results,
  withLse,
}: typeof merges extends fc.Arbitrary<infer T> ? T : never) {
  const count = (index: number): number => shapes[index]?.states ?? 0;
  const outs = shapes.map(({ tokens, heads, dim, states: of }, at) => values(from, [of, tokens, heads, dim], at));
  const lses = shapes.map(({ tokens, heads, states: of }, at) => values("f32", [of, tokens, heads], 50 + at));
  const [placedOuts, placedLses] = [placed(states, outs), placed(states, lses)];
  const out = placed(
    results,
    shapes.map(({ tokens, heads, dim }) => values(to, [tokens, heads, dim], 0)),
  );
  const lse = placed(
    results,
    shapes.map(({ tokens, heads }) => values("f32", [tokens, heads], 0)),
  );
  const stateOf = (all: Operand | undefined, index: number): Operand => {
    const one = (all ?? missing()).slice(0, index, index + 1);
    if (one instanceof Tensor) return one.reshape(one.shape.slice(1));
    return new GpuTensor(one.memory, one.dtype, one.shape.slice(1), undefined, one.elementOffset, () => undefined);
  };
  return shapes.map((_, at) => {
    const [outAt, lseAt] = [out[at] ?? missing(), lse[at] ?? missing()];
    const args: MergeAttnStatesArgs = {
      outs: Array.from({ length: count(at) }, (_state, index) => stateOf(placedOuts[at], index)),
      lses: Array.from({ length: count(at) }, (_state, index) => stateOf(placedLses[at], index)),
      out: outAt,
      ...(withLse ? { lse: lseAt } : {}),
    };
    return { args, results: withLse ? [outAt, lseAt] : [outAt] };
  });
}

const write = fc.record({ tokens: few(0, 1, 3), heads: few(1, 3), dim: few(1, 4, 6), blockSize: few(1, 2) });
const writes = fc.record({
  shapes: fc.oneof(
    fc.array(write, { minLength: 1, maxLength: 6 }),
    write.chain((one) => fc.array(fc.constant(one), { minLength: 2, maxLength: 9 })),
  ),
  from: fc.constantFrom<"f32" | "f16">("f32", "f16"),
  to: fc.constantFrom<"f32" | "f16" | "f8e4m3">("f32", "f16", "f8e4m3"),
  rows: place,
  caches: place,
  withValues: fc.boolean(),
  otherSlots: fc.boolean(),
});

function writesOf(of: typeof writes extends fc.Arbitrary<infer T> ? T : never) {
  const { shapes, from, to, rows, caches, withValues, otherSlots } = of;
  const rowsOf = (seed: number): Operand[] =>
    placed(
      rows,
      shapes.map(({ tokens, heads, dim }, at) => values(from, [tokens, heads, dim], seed + at)),
    );
  const cachesOf = (): Operand[] =>
    placed(
      caches,
      shapes.map(({ heads, dim, blockSize }) => values(to, [4, blockSize, heads, dim], 3)),
    );
  const [keys, otherRows, keyCaches, valueCaches] = [rowsOf(0), rowsOf(30), cachesOf(), cachesOf()];
  return shapes.map(({ tokens }, at) => {
    const slotMapping = Array.from({ length: tokens }, (_, token) =>
      token === 1 ? -1 : token + (otherSlots ? at % 2 : 0),
    );
    const [keyCache, valueCache] = [keyCaches[at] ?? missing(), valueCaches[at] ?? missing()];
    const args: WriteKvCacheArgs = {
      key: keys[at] ?? missing(),
      keyCache,
      slotMapping,
      ...(withValues ? { value: otherRows[at] ?? missing(), valueCache } : {}),
      ...(to === "f8e4m3" ? { keyScale: [0.5], ...(withValues ? { valueScale: [0.25] } : {}) } : {}),
    };
    return { args, results: withValues ? [keyCache, valueCache] : [keyCache] };
  });
}

test("merges together have the bits of each alone", () =>
  fc.assert(
    fc.asyncProperty(merges, async (of) => {
      const counts = await compare("mergeAttnStates", () => mergesOf(of));
      expect(counts.together).toBeLessThanOrEqual(counts.alone);
    }),
    { numRuns: 25, seed: 7 },
  ));

test("writes together have the bits of each alone", () =>
  fc.assert(
    fc.asyncProperty(writes, async (of) => {
      const counts = await compare("writeKvCache", () => writesOf(of));
      expect(counts.together).toBeLessThanOrEqual(counts.alone);
    }),
    { numRuns: 40, seed: 8 },
  ));

describe("alike ops in one piece of memory are one dispatch", () => {
  test.each([2, 4, 8])("%d of them", async (count) => {
    const shapes = <T>(one: T): T[] => Array.from({ length: count }, () => one);
    const merged = await compare("mergeAttnStates", () =>
      mergesOf({
        shapes: shapes({ tokens: 3, heads: 5, dim: 8, states: 3 }),
        from: "f16",
        to: "f16",
        states: "one for all",
        results: "heap",
        withLse: true,
      }),
    );
    expect(merged).toEqual({ alone: count, together: 1 });
    const written = await compare("writeKvCache", () =>
      writesOf({
        shapes: shapes({ tokens: 3, heads: 3, dim: 4, blockSize: 1 }),
        from: "f16",
        to: "f16",
        rows: "heap",
        caches: "one for all",
        withValues: false,
        otherSlots: false,
      }),
    );
    expect(written).toEqual({ alone: count, together: 1 });
  });
});

test("one that is refused keeps no other from running", async () => {
  const [good, bad, askew] = [0, 1, 2].map((seed) => {
    const outs = [values("f32", [2, 3, 4], seed), values("f32", [2, 3, 4], seed + 9)];
    const lses = [values("f32", [2, 3], seed), values("f32", [2, 3], seed + 5)];
    return { outs, lses, out: own(Tensor.empty(heap, "f32", [2, 3, 4]).fill(77)) };
  });
  if (good === undefined || bad === undefined || askew === undefined) throw new Error("three merges");
  // Found by the check of arguments, and only when it is recorded.
  const wide = own(backend.empty("f32", [2, 3, 8]));
  let outcomes: ReturnType<OpsTogether["run"]> = [];
  await backend.batch(() => {
    outcomes = together.run("mergeAttnStates", [
      { ...bad, lses: bad.lses.slice(1) },
      good,
      { ...askew, out: wide.slice(2, 0, 4) },
    ]);
  });
  expect(outcomes.map((outcome) => outcome?.error instanceof ArgumentError)).toEqual([true, false, true]);
  expect(good.out.toNumbers().every((value) => Math.abs(value) <= 1)).toBe(true);
  expect(bad.out.toNumbers().every((value) => value === 77)).toBe(true);
  for (const operand of owned.splice(0)) operand.free();
});
