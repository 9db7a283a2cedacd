import { openWorld } from "@lockstep/dist-groups";

await using world = await openWorld<typeof import("./program.ts")>({
  size: 4,
  // Built from worker.ts, which is an entry of the bundle as well.
  worker: new URL(/* @vite-ignore */ "./worker.js", import.meta.url),
});
for (let token = 0; token < 10; token++) await world.call("step", []);
console.log(await world.call("step", [])); // [ 3, 3, 3, 2 ]: eleven tokens, dealt one by one
