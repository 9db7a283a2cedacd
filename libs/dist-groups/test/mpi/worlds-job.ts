// The program of jobs that open several worlds: `again COUNT` one after the other, of 1 to 5 ranks in turn; `together
// COUNT` all at once. Prints what they found as JSON.
import process from "node:process";
import { joinJob, openWorld } from "../../src/index.ts";
import type * as program from "./worlds-program.ts";

const [, , mode, count = "1"] = process.argv;
await joinJob();

const open = (size: number) =>
  openWorld<typeof program>({
    size,
    program: new URL("./worlds-program.ts", import.meta.url),
    heapBytesPerRank: 1 << 20,
    deadlineMs: 30_000,
  });

if (mode === "again") {
  const found: unknown[] = [];
  for (let world = 0; world < Number(count); world++) {
    await using opened = await open(1 + (world % 5));
    found.push({ gathered: await opened.call("gather", [10 * world]), held: await opened.call("held", []) });
  }
  console.log(JSON.stringify(found));
} else {
  const worlds = await Promise.all(Array.from({ length: Number(count) }, (_, world) => open(2 + world)));
  const rounds = Array.from({ length: 20 }, (_, round) => round);
  const found = await Promise.all(
    worlds.map((world, index) => Promise.all(rounds.map((round) => world.call("gather", [1000 * index + round])))),
  );
  console.log(JSON.stringify(found));
  await Promise.all(worlds.map((world) => world.close()));
}
