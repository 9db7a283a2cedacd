// A hang, as its user sees it: rank 2 computes too long before it comes to an all-reduce.

import { CollectiveTimeout, formatFlightRecord, openWorld } from "@lockstep/dist-groups";

await using world = await openWorld<typeof import("./hang-program.ts")>({
  size: 4,
  program: new URL("./hang-program.ts", import.meta.url),
  groups: {
    pair: [
      [0, 1],
      [2, 3],
    ],
  },
});

const step = world.call("step", [2]);
await new Promise((resolve) => setTimeout(resolve, 150));
console.log(`While it hangs:\n\n${formatFlightRecord(world.flightRecord(), 2)}\n`);
try {
  await step;
} catch (error) {
  console.log(`${error}`);
  if (error instanceof CollectiveTimeout && error.flightRecord !== undefined) {
    console.log(`\nIn the error:\n\n${formatFlightRecord(error.flightRecord, 1)}`);
  }
}
