// A consumer whose packages are installed: the library starts its own workers.
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./rank-program.ts";
import { GROUPS, runWorld, SIZE } from "./run-world.ts";

await using world = await openWorld<typeof program>({
  size: SIZE,
  groups: GROUPS,
  program: new URL("./rank-program.ts", import.meta.url),
  options: { backend: "wasm" },
});
console.log(JSON.stringify(await runWorld(world)));
