import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "./world.ts";

setDefaultTimeout(120_000);

const GROUPS = 10_000;
const WORK_EVERY = 1_000;

/** The control memory of a world holds some thirty groups of all ranks. */
test("10,000 groups are opened and closed in one world, and work", async () => {
  await using world = await openWorld<typeof import("../../test/fault-program.ts")>({
    size: 2,
    program: new URL("../../test/fault-program.ts", import.meta.url),
    heapBytesPerRank: 1 << 20,
  });
  for (let opened = 0; opened < GROUPS; opened++) {
    await world.createGroup("again", [0, 1]);
    if (opened % WORK_EVERY === 0) await world.call("work", ["again", 2]);
    await world.destroyGroup("again");
  }
  // Nothing is left of them but the group of all ranks.
  expect(world.flightRecord().groups.map(({ group, generation }) => [group, generation])).toEqual([["world", 1]]);
  await world.createGroup("again", [1, 0]);
  await world.call("work", ["again", 2]);
  const [, last] = world.flightRecord().groups;
  expect([last?.group, last?.generation, last?.ranks.map(({ rank }) => rank)]).toEqual(["again", GROUPS + 2, [1, 0]]);
});
