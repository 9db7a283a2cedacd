// Two ranks decode eleven tokens on one GPU. `bun libs/shared-gpu/examples/main.ts software` takes a software adapter.
import { openWorld } from "@lockstep/dist-groups";

const adapter = process.argv[2] === "software" ? "software" : "hardware";
await using world = await openWorld<typeof import("./program.ts")>({
  size: 2,
  program: new URL("./program.ts", import.meta.url),
  options: { adapter },
});
for (let token = 0; token < 10; token++) await world.call("step", []);
console.log(await world.call("step", []));
