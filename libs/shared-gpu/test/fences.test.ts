// Ranks that use each other's memory on a shared device: only fences order what they call.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./fences-program.ts";
import type { MixedCall } from "./fences-program.ts";

setDefaultTimeout(120_000);

const open = (size: number) =>
  openWorld<typeof program>({
    size,
    program: new URL("./fences-program.ts", import.meta.url),
    deadlineMs: 60_000,
  });

describe.each([2, 3, 4, 8])("%d ranks", (size) => {
  test("what is called behind a fence comes after what anybody called before it, run after run", async () => {
    await using world = await open(size);
    for (let run = 0; run < 2; run++) {
      for (const { values, expected } of await world.call("ring", [19])) expect(values).toEqual(expected);
    }
  });

  test("what waits keeps what it was given, whoever frees it, and nothing is left", async () => {
    await using world = await open(size);
    // The first call makes what stays: messages grow.
    await world.call("freedEarly", []);
    for (const [rank, { value, expected, attended, left }] of (await world.call("freedEarly", [])).entries()) {
      expect([rank, value]).toEqual([rank, expected]);
      expect(attended).toEqual([rank + 5, rank + 5, rank + 5, rank + 5, 1]);
      expect([rank, left]).toEqual([rank, 0]);
    }
  });
});

test("many fences run what they part, with one submission for several, and keep nothing", async () => {
  await using world = await open(3);
  // The first call makes what stays: messages grow.
  await world.call("manyFences", []);
  for (const [rank, { counts, kept, value }] of (await world.call("manyFences", [])).entries()) {
    expect(counts.mapAsync).toBe(0);
    if (rank === 0) expect(counts.submit).toBeGreaterThan(0);
    expect(counts.submit).toBeLessThanOrEqual(rank === 0 ? 40 : 0);
    expect(kept).toBe(0);
    expect(value).toBe(79);
  }
});

describe.each([0, 1, 2])("rank %d of 3", (wrong) => {
  test("fails before a fence: it is told why, the others that it did, and nothing behind the fence is run", async () => {
    await using world = await open(3);
    for (const [rank, { told, value, after }] of (await world.call("failBefore", [wrong])).entries()) {
      expect(told.tag).toBe(rank === wrong ? "ArgumentError" : "FenceFailed");
      expect(told.message).toContain("contiguous");
      if (rank !== wrong) expect(told.message).toContain(`rank ${wrong}`);
      expect([value, after]).toEqual([50, 7]);
    }
    for (const { values, expected } of await world.call("ring", [7])) expect(values).toEqual(expected);
  });

  test("forgets a fence: all are told, and go on", async () => {
    await using world = await open(3);
    for (const { told, after } of await world.call("forget", [wrong])) {
      expect(told.tag).toBe("FencesDiffer");
      expect(told.message).toContain(`[${[0, 1, 2].map((rank) => (rank === wrong ? 0 : 1))}] fences`);
      expect(after).toBe(7);
    }
  });

  test("shows more than there is, or what is not there: all are told, and go on", async () => {
    await using world = await open(3);
    for (const [rank, { told, after }] of (await world.call("showTooMuch", [wrong])).entries()) {
      expect([rank, told.tag]).toEqual([rank, rank === wrong ? "ArgumentError" : "FenceFailed"]);
      expect(told.message).toMatch(/bytes on this device/);
      expect(after).toBe(7);
    }
    for (const [rank, { foreign, freed, after }] of (await world.call("showWhatIsNot", [wrong])).entries()) {
      expect(foreign.tag).toBe(rank === wrong ? "ArgumentError" : "FenceFailed");
      expect(freed.tag).toBe(rank === wrong ? "UseAfterFree" : "FenceFailed");
      expect(after).toBe(7);
    }
  });
});

describe.each([2, 3, 4])("of %d ranks", (size) => {
  const ranks = Array.from({ length: size }, (_, rank) => rank);

  test("one calls `show` while others call an op, or the other way: all are told who called what, and go on", async () => {
    await using world = await open(size);
    const named: Readonly<Record<MixedCall, string>> = {
      show: "`show`",
      op: "`download`",
      batch: "`download`",
      fences: "`fence`",
    };
    for (const call of ["op", "batch", "fences"] as const) {
      for (const odd of ranks) {
        for (const [its, others] of [
          ["show", call],
          [call, "show"],
        ] as const) {
          const outcomes = await world.call("mix", [odd, its, others]);
          const calls = ranks.map((rank) => `rank ${rank} ${named[rank === odd ? its : others]}`).join(", ");
          for (const { told, after } of outcomes) {
            expect(told.tag).toBe("CallsDiffer");
            expect(told.message).toContain(calls);
            expect(after).toBe(7);
          }
        }
      }
    }
    for (const { values, expected } of await world.call("ring", [7])) expect(values).toEqual(expected);
  });

  test("one has no room to say what it shows, and goes on to an op: all are told, and go on", async () => {
    await using world = await open(size);
    for (const full of ranks) {
      for (const [rank, { first, told, after }] of (await world.call("showWithoutRoom", [full])).entries()) {
        expect(first.tag).toBe(rank === full ? "HeapExhausted" : "CallsDiffer");
        expect(told.tag).toBe("CallsDiffer");
        for (const one of ranks) {
          const words = one === full ? "an op with results in the heap" : "the tensors of `show`";
          expect(told.message).toContain(`rank ${one} ${words}`);
        }
        expect(after).toBe(7);
      }
    }
    for (const { values, expected } of await world.call("ring", [7])) expect(values).toEqual(expected);
  });

  test.each(ranks)("rank %d opens a backend while others call an op: all are told both by the group", async (odd) => {
    const world = await open(size);
    for (const { tag, message } of await world.call("openWhile", [odd])) {
      expect(["CollectiveMismatch", "GroupAborted"]).toContain(tag);
      expect(message).toContain("agree");
      expect(message).toContain("readPeers");
    }
    await world.close();
  });
});

test("a batch that throws behind a fence leaves nothing to be run", async () => {
  await using world = await open(3);
  expect(await world.call("brokenBatch", [])).toEqual([10, 11, 12]);
});
