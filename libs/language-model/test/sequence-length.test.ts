// Lengths that a trial gives its texts.
import { expect, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";

test("a sequence gets longer, shorter and stays, on every rank; the next token comes after its last", async () => {
  await using world = await openWorld<typeof import("./sequence-length-program.ts")>({
    size: 2,
    program: new URL("./sequence-length-program.ts", import.meta.url),
    groups: { dcp: [[0, 1]] },
    heapBytesPerRank: 8 << 20,
  });
  for (const lengths of [[0], [1], [99, 99, 7, 8, 300, 0, 5], [16, 15, 17], [400, 399]]) {
    for (const rank of await world.call("run", [lengths])) {
      expect(rank).toEqual({ found: lengths, position: lengths.at(-1) ?? -1 });
    }
  }
});
