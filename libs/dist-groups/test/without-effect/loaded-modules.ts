// Opens a world through the plain face, or, with the argument `effect`, through the Effect face, calls its ranks, and
// prints how many modules of Effect the host and its ranks have loaded. Each in a process of its own, because what one
// test loads the next one finds.
import type { World } from "@lockstep/dist-groups";
import { effectModules } from "./effect-modules.ts";
import type { setup } from "./effect-modules-program.ts";

const options = {
  size: 2,
  program: new URL("./effect-modules-program.ts", import.meta.url),
  heapBytesPerRank: 1 << 20,
};
type Ranks = World<ReturnType<typeof setup>>;

async function plain(): Promise<number[]> {
  const { openWorld } = await import("@lockstep/dist-groups");
  await using world = (await openWorld(options)) as unknown as Ranks;
  return await world.call("effectModules", []);
}

async function withEffect(): Promise<number[]> {
  const { call, openWorld } = await import("@lockstep/dist-groups/effect");
  const { runPromise, flatMap, scoped } = await import("effect/Effect");
  return runPromise(
    scoped(flatMap(openWorld(options), (world) => call(world as unknown as Ranks, "effectModules", []))),
  );
}

const ranks = await (process.argv[2] === "effect" ? withEffect() : plain());
console.log(JSON.stringify({ host: effectModules(), ranks }));
