import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import type * as program from "./dcp-attention-program.ts";

setDefaultTimeout(60_000);

let world: World<MethodsOf<typeof program>>;
beforeAll(async () => {
  world = await openWorld<typeof program>({
    size: 2,
    program: new URL("./dcp-attention-program.ts", import.meta.url),
  });
});
afterAll(() => world.close());

describe("DcpAttention refuses options that disagree", () => {
  test.each([
    ["an interleave that does not divide the block size", { interleave: 3 }, "interleave"],
    ["no layers", { layers: 0 }, "layers"],
    ["half a head", { queryHeads: 1.5 }, "queryHeads"],
    ["no blocks", { numBlocks: 0 }, "numBlocks"],
    ["a cache in integers", { kvDtype: "i32" }, "kvDtype` must be f32, f16, bf16, f8e4m3, i8"],
    ["a window of 0", { window: 0 }, "window"],
    ["windows for more layers than there are", { window: [3, null] }, "one for each of the 1 layers"],
    ["MLA in words", { mla: "yes" as never }, "mla` must be true or false"],
    ["replicated queries in numbers", { queryReplicated: 1 as never }, "queryReplicated` must be true or false"],
    ["MLA with two KV heads", { mla: true, kvHeads: 2 }, "kvHeads` must be 1 with mla"],
    ["MLA values wider than the keys", { mla: true, valueDim: 5 }, "valueDim` must be at most headDim = 4"],
    ["scales of a cache of floats per token", { kvScales: "per-token" }, "left out for a kvDtype of f32"],
    [
      "scales of another name",
      { kvDtype: "i8", kvScales: "static" as "per-token" },
      '`kvScales` must be "per-token", or',
    ],
    ["scales of a cache of floats", { kvScales: { key: 1, value: 1 } }, "left out for a kvDtype of f32"],
    ["scales without the values'", { kvDtype: "i8", kvScales: { key: 1 } }, "kvScales.value of layer 0` must be given"],
    ["scales of other KV heads", { kvDtype: "i8", kvScales: { key: [1, 1], value: 1 } }, "each of the 1 KV heads"],
    ["scales of other layers", { kvDtype: "i8", kvScales: [] }, "one for each of the 1 layers"],
    ["a scale in words", { kvDtype: "i8", kvScales: { key: "1", value: 1 } as never }, "kvScales.key of layer 0"],
    ["scales without the keys'", { kvDtype: "i8", kvScales: { value: 1 } as never }, "kvScales.key of layer 0"],
    ["no scales", { kvDtype: "i8", kvScales: null as never }, '`kvScales` must be "per-token", or'],
    ["a scale of 0", { kvDtype: "i8", kvScales: { key: 0, value: 1 } }, "kvScales.key of layer 0"],
    ["a query gathered in i8", { gatherDtype: "i8" }, "gatherDtype` must be the queryDtype f32, or f8e4m3"],
    [
      "an f8 gather of queries that are not gathered",
      { gatherDtype: "f8e4m3", queryReplicated: true },
      "gatherDtype` must be left out with queryReplicated",
    ],
    ["a query scale for f32 queries", { queryScale: 2 }, "queryScale` must be left out unless gatherDtype is f8e4m3"],
    ["partial outputs in 8 bits", { partialDtype: "f8e4m3" }, "partialDtype` must be f32, f16, bf16"],
    [
      "partial outputs in 16 bits with a combine that packs f32",
      { partialDtype: "f16", combine: "one-shot" },
      'combine` must be "a2a" or "auto" with a partialDtype of f16',
    ],
    [
      "bits that depend on the day",
      { deterministic: "daily" as "rank-order" },
      'deterministic` must be "rank-order" or "world-invariant"',
    ],
    [
      "world-invariant sums exchanged in 16 bits",
      { deterministic: "world-invariant", partialDtype: "f16" },
      'partialDtype` must be f32 with deterministic "world-invariant"',
    ],
    [
      "world-invariant sums by a combine that packs f32",
      { deterministic: "world-invariant", combine: "one-shot" },
      'combine` must be "a2a", "ag-rs" or "auto" with deterministic "world-invariant"',
    ],
    ["an unknown combine", { combine: "ring" as "a2a" }, "combine"],
    ["an overlap in numbers", { overlap: 2 as never }, 'overlap` must be "auto", "on" or "off"'],
    ["chunks of nothing", { prefillChunk: 0 }, "prefillChunk"],
    ["an LSE base of 10", { lseBase: "10" as "2" }, "lseBase"],
    ["a negative softcap", { softcap: -1 }, "softcap"],
    [
      "a head group that maps beyond the stored KV heads",
      { headGroup: { size: 1, offset: 0 } },
      "headGroup` must be one that maps 2 query heads to the 1 stored KV heads",
    ],
    ["query heads that are no multiple of the KV heads", { queryHeads: 3, kvHeads: 2 }, "queryHeads"],
  ] as const)("%s", async (_, options, named) => {
    for (const { tag, message, usedBytes } of await world.call("refusal", [options])) {
      expect(tag).toBe("ArgumentError");
      expect(message).toContain(named);
      expect(usedBytes).toBe(0);
    }
  });
});

test.each([
  [[1, 3], 0, "f32 [1, 2], one for each of the 1 layers and 2 query heads"],
  [[2], 0, "f32 [1, 2]"],
  [[1, 2], Number.NaN, "-inf for none, but is NaN"],
  [[1, 2], Number.POSITIVE_INFINITY, "-inf for none, but is Infinity"],
])("sinks of shape %p and value %p are refused", async (shape, sink, says) => {
  for (const { tag, message, usedBytes } of await world.call("refusedSinks", [shape, sink])) {
    expect(tag).toBe("ArgumentError");
    expect(message).toMatch(/`sinks(\[0, 0\])?` must be/);
    expect(message).toContain(says);
    expect(usedBytes).toBe(0);
  }
});

test("a draft longer than the blocks left is refused, naming both, and nothing is lost", async () => {
  for (const { tag, message, length } of await world.call("draftBeyondBlocks", [])) {
    expect(tag).toBe("OutOfBlocks");
    expect(message).toContain("the step needs 1 more, 0 of 2 are free");
    expect(length).toBe(10);
  }
});

test("prefill methods out of order, and queries beyond the most, are refused", async () => {
  for (const { tags, length } of await world.call("prefillOutOfOrder", [])) {
    const order = "StepOrderError";
    expect(tags).toEqual([order, order, "ArgumentError", order, order, "ArgumentError"]);
    expect(length).toBe(0);
  }
});

test("running out of blocks reserves nothing and loses nothing", async () => {
  for (const result of await world.call("outOfBlocks", [])) {
    expect(result.tag).toBe("OutOfBlocks");
    expect(result.message).toContain("needs 2 more, 1 of 2 are free");
    expect(result.lengthAfter).toBe(result.lengthBefore);
    expect(result.outAfter).toEqual(result.outBefore);
  }
});

test("a cancelled step gives its slots back", async () => {
  for (const { length, held } of await world.call("cancelStep", [])) {
    expect(length).toBe(0);
    expect(held).toBe(0);
  }
});

test("what ends while keys are being stored is attended to no more", async () => {
  for (const tags of await world.call("endedMeanwhile", [])) {
    expect(tags).toEqual(["StepOrderError", "StepOrderError", "ResourceClosed"]);
  }
});

test("methods out of order are refused with the order to follow", async () => {
  for (const tags of await world.call("outOfOrder", [])) {
    expect(tags).toEqual(["StepOrderError", "StepOrderError", "StepOrderError", "StepOrderError"]);
  }
});

test("a query of the wrong shape is refused before anything is exchanged", async () => {
  for (const { tag, message } of await world.call("wrongQuery", [])) {
    expect(tag).toBe("ArgumentError");
    expect(message).toContain("query");
  }
});

test.each([
  ["wasm", ["a2a", "ag-rs", "one-shot"]],
  // Here ag-rs would round differently: which one is faster must not show in the results.
  ["reference", ["a2a", "one-shot"]],
] as const)("auto on %s times every combine, agrees on one, and shows what it measured", async (on, candidates) => {
  const [first, ...others] = await world.call("decode", ["auto", on]);
  const [choice] = first?.combineChoices ?? [];
  expect(first?.combineChoices.length).toBe(1);
  expect(choice?.queries).toBe(1);
  const measured = Object.entries(choice?.microseconds ?? {});
  expect(measured.map(([name]) => name).sort()).toEqual([...candidates]);
  const least = measured.reduce((best, entry) => (entry[1] < best[1] ? entry : best));
  expect(choice?.combine).toBe(least[0] as "a2a");
  for (const other of others) expect(other.combineChoices).toEqual(first?.combineChoices ?? []);
  for (const result of [first, ...others]) expect(result?.used).toBe(choice?.combine ?? "a2a");
  // While it times and afterwards: the bits of any candidate.
  for (const combine of candidates) {
    for (const [rank, { results }] of (await world.call("decode", [combine, on])).entries()) {
      expect(results).toEqual((rank === 0 ? first : others[rank - 1])?.results ?? []);
    }
  }
});

test("closing returns every byte", async () => {
  for (const usedBytes of await world.call("openAndClose", [])) expect(usedBytes).toBe(0);
});

test.each([
  ["ag-rs", "rank-order"],
  ["a2a", "rank-order"],
  ["one-shot", "rank-order"],
  ["ag-rs", "world-invariant"],
  ["a2a", "world-invariant"],
] as const)("partial LSEs are told before %s combines them, %s", async (combine, deterministic) => {
  const ranks = await world.call("partialLses", [5, combine, deterministic]);
  for (const [rank, { told, lse }] of ranks.entries()) {
    expect(told.map(({ layer, shape }) => [layer, ...shape])).toEqual(Array(5).fill([0, 1, 2]));
    // Keys of 0 weigh the same, so a rank's partial LSE is ln of its tokens; after one token rank 1 has none.
    expect(told[0]?.partial).toEqual(rank === 0 ? [0, 0] : [-Infinity, -Infinity]);
    const held = [3, 2][rank] ?? 0;
    // What attend returns is in base 2 here; what is told is natural.
    for (const partial of told[4]?.partial ?? []) {
      expect(Math.exp(partial - lse * Math.LN2)).toBeCloseTo(held / 5, 6);
    }
  }
});
