// The program of a job over hosts: `rounds SIZE ELEMENTS ROUNDS` exchanges and prints the milliseconds of a round;
// `cut SIZE ELEMENTS DEADLINE_MS` goes on until the network is cut, then waits for a line on which it goes on anew.
import { existsSync } from "node:fs";
import process from "node:process";
import { CollectiveTimeout, joinJob, openWorld } from "@lockstep/dist-groups";

const [, , mode, size, elements, last, file = ""] = process.argv;
await joinJob();
const world = await openWorld<typeof import("./world-program.ts")>({
  size: Number(size),
  program: new URL("./world-program.ts", import.meta.url),
  deadlineMs: mode === "cut" ? Number(last) : 60_000,
});
if (mode === "rounds") {
  const milliseconds = await world.call("rounds", [Number(elements), Number(last)]);
  console.log(JSON.stringify({ milliseconds }));
} else {
  console.log("begun");
  try {
    await world.call("untilCut", [Number(elements)], { deadlineMs: 120_000 });
  } catch (error) {
    const what = error instanceof CollectiveTimeout ? { missing: error.missing, has: "flightRecord" in error } : {};
    console.log(`host ${JSON.stringify({ error: error instanceof Error ? error.name : "", ...what })}`);
  }
  // The network is back once the test says so.
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 20));
  await world.renewGroups({ deadlineMs: 60_000 });
  await world.call("rounds", [Number(elements), 3], { deadlineMs: 60_000 });
  console.log("went on");
}
await world.close();
