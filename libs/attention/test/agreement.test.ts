// What ranks must agree on when they open a DcpAttention, what it says once closed, and how it goes on after an abort.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { DcpAttentionOptions } from "@lockstep/attention";
import { openWorld } from "@lockstep/dist-groups";
import { ranksApart } from "../../dist-groups/test/apart/ranks-apart.ts";
import type * as program from "./agreement-program.ts";

setDefaultTimeout(300_000);

const code = new URL("./agreement-program.ts", import.meta.url);
const open = (size: number) => openWorld<typeof program>({ size, program: code });
/** Ranks that share no memory. */
const openApart = (size: number) => openWorld<typeof program>({ size, worker: ranksApart(code) });

const DIFFERENT: readonly [option: string, most: Partial<DcpAttentionOptions>, last: Partial<DcpAttentionOptions>][] = [
  ["interleave", {}, { interleave: 2 }],
  ["layers", {}, { layers: 1 }],
  ["queryHeads", {}, { queryHeads: 6 }],
  ["kvHeads", { queryHeads: 6 }, { queryHeads: 6, kvHeads: 3 }],
  ["headDim", {}, { headDim: 8 }],
  ["valueDim", {}, { valueDim: 8 }],
  ["mla", {}, { mla: true }],
  ["headGroup", {}, { headGroup: { size: 9, offset: 0 } }],
  ["kvDtype", {}, { kvDtype: "bf16" }],
  ["queryDtype", {}, { queryDtype: "f16" }],
  ["gatherDtype", {}, { gatherDtype: "f8e4m3" }],
  ["queryScale", { gatherDtype: "f8e4m3" }, { gatherDtype: "f8e4m3", queryScale: 2 }],
  ["partialDtype", { combine: "a2a" }, { combine: "a2a", partialDtype: "bf16" }],
  ["queryReplicated", {}, { queryReplicated: true }],
  ["blockSize", {}, { blockSize: 8 }],
  ["numBlocks", {}, { numBlocks: 9 }],
  ["combine", {}, { combine: "a2a" }],
  ["deterministic", {}, { deterministic: "world-invariant" }],
  ["overlap", {}, { overlap: "on" }],
  ["scale", {}, { scale: 0.25 }],
  ["softcap", {}, { softcap: 3 }],
  ["window", {}, { window: [null, 3] }],
  ["maxStepQueries", {}, { maxStepQueries: 9 }],
  ["prefillChunk", {}, { prefillChunk: 9 }],
  [
    "kvScales",
    { kvDtype: "f8e4m3", kvScales: { key: 1, value: 1 } },
    { kvDtype: "f8e4m3", kvScales: { key: 1, value: 2 } },
  ],
  ["kvScales", { kvDtype: "i8" }, { kvDtype: "i8", kvScales: { key: 1, value: 2 } }],
];

test.each([
  ["share a memory", open],
  ["share nothing", openApart],
])("ranks that %s and open with different options are refused on every rank, and go on", async (_, openRanks) => {
  await using world = await openRanks(3);
  for (const [option, most, last] of DIFFERENT) {
    for (const { tag, message, usedBytes } of await world.call("openWith", [[most, most, last]])) {
      expect([option, tag]).toEqual([option, "OptionsDisagree"]);
      expect(message).toContain(option);
      expect(message).toContain("rank 2");
      expect(usedBytes).toBe(0);
    }
  }
  for (const { tag, message } of await world.call("openWithSinks", [1])) {
    expect(tag).toBe("OptionsDisagree");
    expect(message).toContain("sinks");
  }
  for (const { tag } of await world.call("openWith", [[{}, {}, { lseBase: "2", deadlineMs: 9_000 }]]))
    expect(tag).toBe("none");
});

test("ranks that open with different groups of the same ranks are refused at once, on every rank", async () => {
  await using world = await openWorld<typeof program>({
    size: 2,
    program: code,
    groups: { forward: [[0, 1]], backward: [[1, 0]], again: [[0, 1]], alone: [[0], [1]] },
  });
  const [forward, backward, again, alone] = ["forward", "backward", "again", "alone"];
  for (const [option, first, second] of [
    ["queryGroup", {}, { queryGroup: forward }],
    ["queryGroup", { queryGroup: forward }, { queryGroup: backward }],
    ["queryGroup", { queryGroup: forward }, { queryGroup: again }],
    ["queryGroup", { queryGroup: forward }, { queryGroup: alone }],
    ["pcpGroup", { pcpGroup: forward }, {}],
    ["pcpGroup", { pcpGroup: forward }, { pcpGroup: backward }],
    ["pcpGroup", { pcpGroup: "world" }, { pcpGroup: again }],
    ["pcpGroup", { pcpGroup: forward }, { pcpGroup: alone }],
  ] as const) {
    for (const { tag, message, usedBytes } of await world.call("openWithGroups", [[first, second]])) {
      expect([option, tag, message.includes(option), usedBytes]).toEqual([option, "OptionsDisagree", true, 0]);
    }
  }
  for (const groups of [{ queryGroup: backward }, { pcpGroup: backward }, { dcpGroup: backward }]) {
    for (const { tag } of await world.call("openWithGroups", [[groups, groups]])) expect(tag).toBe("none");
  }
});

test("no rank begins a step with sinks that became no numbers for kernels, or were freed", async () => {
  await using world = await open(2);
  for (const tags of await world.call("beginWithWrongSinks", []))
    expect(tags).toEqual([...Array.from({ length: 6 }, () => "ArgumentError"), "UseAfterFree", "UseAfterFree"]);
});

test("every method of a closed attention says so", async () => {
  await using world = await open(1);
  const [{ said, methods, left } = { said: {}, methods: [], left: -1 }] = await world.call("afterClose", []);
  expect(Object.keys(said).sort()).toEqual(methods.toSorted());
  for (const [name, tag] of Object.entries(said)) expect([name, tag]).toEqual([name, "ResourceClosed"]);
  expect(left).toBe(0);
});

test("opening, failing to open and closing 10,000 times leaves the heap as it was", async () => {
  await using world = await open(1);
  for (const { tags, left } of await world.call("openAndFail", [10_000])) {
    expect(tags).toEqual(["ArgumentError", "HeapExhausted", "none"]);
    expect(left).toBe(0);
  }
});

test("a query group that is the DCP group is renewed with it", async () => {
  await using world = await open(2);
  const [sequence = -1] = await world.call("startWithQueryGroup", []);
  const before = await world.call("step", [sequence, 0]);
  await world.call("stepAborted", [sequence, 1, 0]).catch(() => "stopped on purpose");
  await world.renewGroups();
  for (const { length } of await world.call("goOn", [sequence])) expect(length).toBe(1);
  const after = await world.call("step", [sequence, 1]);
  expect(after.map((out) => out.every(Number.isFinite))).toEqual([true, true]);
  expect(after).not.toEqual(before);
  for (const { tag, message } of await world.call("usePcpGroup", [])) {
    expect(tag).toBe("ArgumentError");
    expect(message).toContain("`pcpGroup` must be left out, as it was at open");
  }
});

describe("after an aborted collective the caches go on with new groups", () => {
  test.each([
    ...[1, 2, 3, 4, 8].map((size) => [size, "", open, "rank-order"] as const),
    ...[2, 3].map((size) => [size, " that share nothing", openApart, "rank-order"] as const),
    [3, " in the world-invariant mode", open, "world-invariant"],
  ] as const)("%i ranks%s", async (size, _, openRanks, deterministic) => {
    await using undisturbed = await open(size);
    await using world = await openRanks(size);
    const [sequence = -1] = await undisturbed.call("start", [deterministic]);
    expect(await world.call("start", [deterministic])).toEqual(Array.from({ length: size }, () => sequence));
    for (let token = 0; token < 5; token++) {
      const wanted = await undisturbed.call("step", [sequence, token]);
      expect(await world.call("step", [sequence, token])).toEqual(wanted);
    }
    for (const by of new Set([0, size - 1])) {
      const failed = await world.call("stepAborted", [sequence, 5, by]).then(
        () => "nothing",
        (error: unknown) => String(error),
      );
      expect(failed).toContain("stopped on purpose");
      await world.renewGroups();
      for (const { length } of await world.call("goOn", [sequence])) expect(length).toBe(5);
    }
    await world.call("endAlone", [sequence, 2]);
    const after = await world.call("goOn", [sequence]);
    // Even ranks ended a step of two tokens, and made a sequence; alone, that is every rank.
    const [{ length = -1, next = -1 } = {}] = after;
    expect(length).toBe(size === 1 ? 7 : 5);
    expect(after.map((rank) => [rank.length, rank.next])).toEqual(after.map(() => [length, next]));
    expect(after.reduce((sum, rank) => sum + rank.held, 0)).toBe(length);
    if (size > 1)
      for (let token = 5; token < 9; token++) {
        const wanted = await undisturbed.call("step", [sequence, token]);
        expect(await world.call("step", [sequence, token])).toEqual(wanted);
      }
    // As after one attention that was never disturbed: kernels keep their scratch memory.
    expect(await world.call("stop", [])).toEqual(await undisturbed.call("stop", []));
  });
});
