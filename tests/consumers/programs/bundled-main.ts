// A consumer that is bundled: it says what its workers run, so that the bundler sees it.
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./rank-program.ts";
import { GROUPS, runWorld, SIZE } from "./run-world.ts";

await using world = await openWorld<typeof program>({
  size: SIZE,
  groups: GROUPS,
  // Built from rank-worker.ts, which is an entry of the bundle as well.
  worker: new URL("./rank-worker.js", import.meta.url),
  options: { backend: "wasm" },
});
console.log(JSON.stringify(await runWorld(world)));
