// Ranks that share no memory, as those of several processes, give the bits of ranks that share one: every feature of
// decoding by every combine, prefill in every layout, known prefixes, forks, rows in any step. They go through pipes.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  type CommonWorldOptions,
  type Determinism,
  type MethodArguments,
  type MethodName,
  type MethodResult,
  type MethodsOf,
  openWorld,
  type ParallelSizes,
  parallelGroups,
  type Program,
  type World,
} from "@lockstep/dist-groups";
import { SharedHeap } from "@lockstep/tensor";
import type * as forks from "./fork-program.ts";
import type * as layers from "./layers-program.ts";
import type * as prefixes from "./prefix-cache-program.ts";
import type { PrefixShape } from "./prefix-cache-program.ts";
import type * as rows from "./row-bits-program.ts";
import type { RowBitsStep } from "./row-bits-program.ts";
import { ranksApart } from "../../dist-groups/test/apart/ranks-apart.ts";
import { DECODE_CASES } from "./decode-cases.ts";
import { type FeatureCase, prepareCase } from "./feature-cases.ts";
import { PREFILL_CASES } from "./prefill-cases.ts";
import type * as sentOperands from "./sent-operands-program.ts";
import { type SentTensors, sentTensor } from "./sent-operands-program.ts";

setDefaultTimeout(300_000);

const OPTIONS = { backend: "wasm" } as const;

/** The same program on ranks that share a memory, and on ranks that do not. */
class Both<P extends Program> implements AsyncDisposable {
  readonly #shared: World<MethodsOf<P>>;
  readonly #apart: World<MethodsOf<P>>;

  private constructor(shared: World<MethodsOf<P>>, apart: World<MethodsOf<P>>) {
    this.#shared = shared;
    this.#apart = apart;
  }

  static async open<P extends Program>(
    file: string,
    options: Omit<CommonWorldOptions<P>, "heapBytesPerRank">,
  ): Promise<Both<P>> {
    const program = new URL(file, import.meta.url);
    const all = { deadlineMs: 60_000, heapBytesPerRank: 96 << 20, ...options };
    const shared = await openWorld<P>({ ...all, program });
    try {
      const worker = ranksApart(program, Object.keys(options.groups ?? {}));
      return new Both<P>(shared, await openWorld<P>({ ...all, worker }));
    } catch (error) {
      await shared.close();
      throw error;
    }
  }

  /** What a call gives, of every rank, once on each: the same. */
  async call<K extends MethodName<MethodsOf<P>>>(
    method: K,
    args: MethodArguments<MethodsOf<P>, K>,
  ): Promise<MethodResult<MethodsOf<P>, K>[]> {
    const expected = await this.#shared.call(method, args);
    const found = await this.#apart.call(method, args);
    expect(found).toEqual(expected);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#apart.close();
    await this.#shared.close();
  }
}

/** A case's tensors as data; results that nobody writes stay NaN. */
function sentCase(item: FeatureCase, seed: number) {
  const heap = SharedHeap.create(256 << 20);
  const { query, key, value, out, lse, sinks, ...rest } = prepareCase(item, heap, seed).replay;
  const sent = (tensor: NonNullable<typeof value>) => sentTensor(tensor, heap);
  const nothing = (tensor: NonNullable<typeof value>) => {
    const blank = sent(tensor);
    return { ...blank, bytes: blank.bytes.fill(0xff) };
  };
  const tensors: SentTensors = {
    query: sent(query),
    key: sent(key),
    out: nothing(out),
    lse: nothing(lse),
    ...(value === undefined ? {} : { value: sent(value) }),
    ...(sinks === undefined ? {} : { sinks: sent(sinks) }),
  };
  return { tensors, rest };
}

describe("decoding, every feature and combine", () => {
  test.each([2, 3])("%d ranks", async (size) => {
    await using both = await Both.open<typeof sentOperands>("./sent-operands-program.ts", { size, options: OPTIONS });
    for (const [index, item] of DECODE_CASES.entries()) {
      const { tensors, rest } = sentCase(item, 100 + index);
      for (const combine of ["ag-rs", "a2a", "one-shot", "auto"] as const) {
        await both.call("replay", [tensors, { ...rest, options: { ...rest.options, combine } }]);
      }
    }
  });
});

test.each([2, 3])("world-invariant decoding, every feature and combine, %d ranks", async (size) => {
  await using both = await Both.open<typeof sentOperands>("./sent-operands-program.ts", { size, options: OPTIONS });
  for (const [index, item] of DECODE_CASES.entries()) {
    const { tensors, rest } = sentCase(item, 100 + index);
    // Partial outputs in 16 bits are refused.
    const { partialDtype: _, ...options } = rest.options;
    const bits = new Set<string>();
    for (const combine of ["ag-rs", "a2a", "auto"] as const) {
      const sent = { ...rest, options: { ...options, combine, deterministic: "world-invariant" as const } };
      for (const [rank, { out, lse }] of (await both.call("replay", [tensors, sent])).entries()) {
        bits.add(`${rank} ${Bun.hash(out)} ${Bun.hash(lse)}`);
      }
    }
    expect([item.name, bits.size]).toEqual([item.name, size]);
  }
});

/** Prefills of some steps, in a parallel layout. */
async function checkPrefill(
  sizes: ParallelSizes,
  kv: "head-sharded" | "replicated" = "replicated",
  cases = PREFILL_CASES,
  deterministic: Determinism = "rank-order",
): Promise<void> {
  const groups = parallelGroups(sizes);
  await using both = await Both.open<typeof sentOperands>("./sent-operands-program.ts", {
    size: groups.worldSize,
    options: OPTIONS,
    groups: { kv: groups.kv, query: groups.query, pcp: groups.pcp },
  });
  for (const [index, item] of cases.entries()) {
    const { tensors, rest } = sentCase(item, 300 + index);
    const { interleave = 1, window, softcap, mla, kvScales } = rest.options;
    const options = {
      deterministic,
      interleave,
      ...(window === undefined ? {} : { window }),
      ...(softcap === undefined ? {} : { softcap }),
      ...(mla === undefined ? {} : { mla }),
      ...(kvScales === undefined ? {} : { kvScales }),
    };
    await both.call("prefill", [tensors, { ...rest, prefills: 2, prefillChunk: 7, sizes, kv, options }]);
  }
}

const classic = (tp: number, dcp: number, pcp = 1): ParallelSizes => ({ layout: "classic", tp, pcp, dcp });
const orthogonal = (tp: number, pcp: number, dcp: number): ParallelSizes => ({ layout: "orthogonal", tp, pcp, dcp });

describe("prefill, in chunks, then decoding", () => {
  test("TP2 DCP2", () => checkPrefill(classic(2, 2)));
  test("TP3 DCP3", () => checkPrefill(classic(3, 3)));
  test("PCP2", () => checkPrefill(classic(1, 1, 2)));
  test("TP2 PCP2 DCP2", () => checkPrefill(classic(2, 2, 2)));
  test("TP2 PCP2 DCP2 beside each other", () => checkPrefill(orthogonal(2, 2, 2)));
  test("TP3 DCP3, world-invariant", () => checkPrefill(classic(3, 3), "replicated", PREFILL_CASES, "world-invariant"));
  test("TP2 PCP2 DCP2, world-invariant", () =>
    checkPrefill(classic(2, 2, 2), "replicated", PREFILL_CASES, "world-invariant"));
  test("TP4 DCP2 of split KV heads", () =>
    checkPrefill(classic(4, 2), "head-sharded", [...PREFILL_CASES.slice(0, 1), ...PREFILL_CASES.slice(3, 4)]));
});

test.each([2, 3])("forks, on %d ranks", async (size) => {
  await using both = await Both.open<typeof forks>("./fork-program.ts", { size, options: OPTIONS });
  for (const kvDtype of ["f32", "f8e4m3", "i8"] as const) await both.call("forked", [kvDtype, true]);
  await both.call("outOfBlocks", []);
  await both.call("cancelled", []);
});

test.each([2, 3])("layers of several windows, sinks and scales, and results in 16 bits, on %d ranks", async (size) => {
  await using both = await Both.open<typeof layers>("./layers-program.ts", { size });
  await both.call("layers", []);
  for (const combine of ["a2a", "one-shot", "ag-rs"] as const) await both.call("halves", ["f16", combine]);
});

const PREFIXES: PrefixShape = {
  heads: [4, 2],
  dims: [7, 5],
  kvDtype: "i8",
  blockSize: 2,
  interleave: 2,
  numBlocks: 20,
  window: 9,
  hasSinks: true,
  mla: false,
};

test.each([2, 3])("prefixes that are known, and taken out and put back, on %d ranks", async (size) => {
  await using both = await Both.open<typeof prefixes>("./prefix-cache-program.ts", { size, options: OPTIONS });
  const ids = Array.from({ length: 6 * size + 1 }, (_, at) => (at * 11) % 70);
  await both.call("moved", [PREFIXES, ids]);
  await both.call("cutBack", [PREFIXES, ids]);
  await both.call("disagree", [PREFIXES]);
  const requests = [ids, ids.slice(0, 4 * size), [...ids, 1, 2, 3], ids.toReversed(), ids].map((text, at) => {
    return { ids: text, chunk: 3 + size, isPrefill: at % 2 === 0, draft: at % 3 };
  });
  const [first] = await both.call("serve", [PREFIXES, requests, true, 1]);
  expect(first?.results.some(({ cached }) => cached > 0)).toBe(true);
});

test("rows have the bits that they have in other steps, with the tokens of a prefill dealt over ranks", async () => {
  await using both = await Both.open<typeof rows>("./row-bits-program.ts", { size: 2, options: OPTIONS });
  const texts = [1, 2].map((salt) => Array.from({ length: 40 }, (_, at) => (at * salt * 7) % 90));
  const shape = { heads: [4, 2], dims: [16, 16], kvDtype: "f16", blockSize: 4, interleave: 2, hasSinks: true } as const;
  const bring = (isPrefill: boolean, ...counts: number[]): RowBitsStep => {
    return { isPrefill, items: counts.map((count, text) => ({ text, count, junk: text })) };
  };
  const steps = [bring(true, 20, 3), bring(false, 1, 1), bring(true, 5, 30), bring(false, 14, 6)];
  for (const combine of ["a2a", "auto"] as const) {
    await both.call("run", [shape, texts, steps, { prefillChunk: 9, combine, hasPcp: true }]);
  }
});
