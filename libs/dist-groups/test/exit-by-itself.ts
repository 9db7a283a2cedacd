// A program that opens a world, works, and ends: the process must then exit by itself, in any runtime. With the
// argument `crash` a rank exits silently first; with `stuck` two ranks wait for ever when the world closes. Prints the
// bits of what it computed.

import process from "node:process";
import { Tensor } from "@lockstep/tensor";
import { openWorld, RankCrashed } from "../src/index.ts";

const mode = process.argv[2];
await using world = await openWorld<typeof import("./fault-program.ts")>({
  size: 4,
  program: new URL("./fault-program.ts", import.meta.url),
  heapBytesPerRank: 4 << 20,
  deadlineMs: 60_000,
  closeDeadlineMs: 300,
});
await world.call("work", ["world", 30]);
console.log((await world.call("digest", [])).join(" "));
if (mode === "crash") {
  const error: unknown = await world.call("exit", [2]).catch((thrown: unknown) => thrown);
  console.log(error instanceof RankCrashed ? `rank ${error.rank} crashed` : `unexpected: ${error}`);
}
if (mode === "stuck") {
  const arrived = Tensor.zeros(world.heap, "i32", [1]);
  const waiting = [1, 2].map((rank) =>
    world.callRank(rank, "waitForEver", [arrived.descriptor]).catch((thrown: unknown) => thrown),
  );
  while (Atomics.load(arrived.i32, 0) < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  // One is ended alone, one with the world.
  await world.terminateRank(1);
  await world.close();
  console.log((await Promise.all(waiting)).map((error) => (error instanceof Error ? error.name : error)).join(" "));
}
