// A program that opens a world, works, and ends: the process must then exit by itself, in any runtime. With the argument
// `crash` a rank exits silently first. Prints the bits of what it computed.

import process from "node:process";
import { openWorld, RankCrashed } from "../src/index.ts";

const crash = process.argv[2] === "crash";
await using world = await openWorld<typeof import("./fault-program.ts")>({
  size: 4,
  program: new URL("./fault-program.ts", import.meta.url),
  heapBytesPerRank: 4 << 20,
  deadlineMs: 5_000,
});
await world.call("work", ["world", 30]);
console.log((await world.call("digest", [])).join(" "));
if (crash) {
  const error: unknown = await world.call("exit", [2]).catch((thrown: unknown) => thrown);
  console.log(error instanceof RankCrashed ? `rank ${error.rank} crashed` : `unexpected: ${error}`);
}
