import { expect, test } from "bun:test";
import { SharedHeap } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { GatherRoom, gatherBytes } from "./gathered-columns.ts";
import { openModel } from "./model.ts";
import { rankShare } from "./tensor-parallel.ts";

const { config } = openModel(MODEL_FOLDER);

test.each([2, 5, 8])("what is gathered on %d ranks takes no more memory than is planned for it", (world) => {
  const sizes = { world, dcp: 1, kvLayout: "replicated", deterministic: "world-invariant" } as const;
  for (let rank = 0; rank < world; rank++) {
    const share = rankShare(sizes, rank, config);
    const [heap, ownHeap] = [SharedHeap.create(16 << 20), SharedHeap.create(16 << 20)];
    const planned = gatherBytes(config, share, 33);
    const before = { heap: heap.usedBytes, own: ownHeap.usedBytes };
    expect(new GatherRoom(config, share, 33, { heap, ownHeap })).toBeDefined();
    const [sent, own] = [heap.usedBytes - before.heap, ownHeap.usedBytes - before.own];
    expect(sent).toBeLessThanOrEqual(planned.sent);
    expect(own).toBeLessThanOrEqual(planned.own);
    // A plan that asks for twice as much would refuse what fits.
    expect(sent + own).toBeGreaterThan((planned.sent + planned.own) / 2);
  }
});

test("nothing is gathered, and no memory taken for it, where layers' outputs are summed, or one rank has all", () => {
  for (const sizes of [
    { world: 4, dcp: 1, kvLayout: "replicated" },
    { world: 1, dcp: 1, kvLayout: "replicated", deterministic: "world-invariant" },
  ] as const) {
    expect(gatherBytes(config, rankShare(sizes, 0, config), 33)).toEqual({ own: 0, sent: 0 });
  }
});
