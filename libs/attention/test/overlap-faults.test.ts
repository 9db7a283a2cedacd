// Steps whose halves overlap leave nothing in flight when a rank fails in either half: everybody gets one typed error,
// `cancelStep` gives the step back, and the same caches go on with new groups.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./overlap-program.ts";
import { PLAIN_OVERLAP } from "./overlap-program.ts";

setDefaultTimeout(120_000);

const open = (size: number) =>
  openWorld<typeof program>({
    size,
    program: new URL("./overlap-program.ts", import.meta.url),
    options: { backend: "wasm" },
    heapBytesPerRank: 40 << 20,
    deadlineMs: 100_000,
  });

const COUNTS = [3, 2];
const WAYS = ["a2a", "one-shot", "ag-rs"] as const;

describe("a rank that fails in either half", () => {
  const cases = WAYS.flatMap((combine) =>
    [2, 3].flatMap((size) => ([0, 1] as const).map((half) => [combine, size, half] as const)),
  );
  test.each(cases)("%s, %d ranks, half %d: stops, frees everybody, and they go on", async (combine, size, half) => {
    const shape = { ...PLAIN_OVERLAP, combine };
    await using world = await open(size);
    for (const rank of new Set([0, size - 1])) {
      const call = world.call("fault", [shape, COUNTS, { rank, how: "throws", half }, 60_000]);
      expect(await call.then(() => "nothing", String)).toContain("stopped on purpose");
      await world.renewGroups();
      const said = await world.call("said", []);
      expect(said).toEqual(said.map((_, other) => (other === rank ? "Error: stopped on purpose" : "GroupAborted")));
      expect(await world.call("goOn", [shape, COUNTS])).toEqual(said.map(() => true));
    }
  });

  test.each([
    ["a2a", 0],
    ["a2a", 1],
    ["one-shot", 1],
  ] as const)("%s, half %d: hangs beyond the deadline of the others", async (combine, half) => {
    const shape = { ...PLAIN_OVERLAP, combine };
    await using world = await open(3);
    const call = world.call("fault", [shape, COUNTS, { rank: 1, how: "hangs", half }, 1500]);
    expect(await call.then(() => "nothing", String)).toContain("CollectiveTimeout");
    await world.renewGroups();
    expect(await world.call("said", [])).toEqual(["CollectiveTimeout", "GroupAborted", "CollectiveTimeout"]);
    expect(await world.call("goOn", [shape, COUNTS])).toEqual([true, true, true]);
  });

  test.each([0, 1] as const)("half %d: is terminated", async (half) => {
    await using world = await open(3);
    const call = world.call("fault", [PLAIN_OVERLAP, COUNTS, { rank: 1, how: "stays", half }, 60_000]);
    const failed = call.then(() => "nothing", String);
    await Bun.sleep(500);
    await world.terminateRank(1);
    expect(await failed).toContain("RankCrashed");
    await world.createGroup("rest", [0, 2]);
    for (const rank of [0, 2]) expect(await world.callRank(rank, "said", [])).toBe("GroupAborted");
  });
});
