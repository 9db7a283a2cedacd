// A page with cross-origin isolation: ranks as its workers, on WebAssembly and on the browser's WebGPU.
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./rank-program.ts";
import { GROUPS, runWorld, SIZE, type WorldResults } from "./run-world.ts";

/** Runs a world of the page's own workers. */
async function run(backend: "wasm" | "webgpu"): Promise<WorldResults> {
  await using world = await openWorld<typeof program>({
    size: SIZE,
    groups: GROUPS,
    worker: () => new Worker(new URL("./rank-worker.ts", import.meta.url), { type: "module" }),
    options: { backend },
  });
  return await runWorld(world);
}

Object.assign(globalThis, { runWorldOn: run });
