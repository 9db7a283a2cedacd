// Results of attention that lie over one another or over the caches are refused before anything is written.
import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./overlapping-results-program.ts";

setDefaultTimeout(120_000);

test.each([
  ["wasm", 1],
  ["wasm", 2],
  ["reference", 2],
] as const)("on %s with %i ranks", async (backend, size) => {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./overlapping-results-program.ts", import.meta.url),
    options: { backend },
  });
  for (const by of ["forward", "prefill"] as const) {
    for (const combine of ["ag-rs", "a2a", "one-shot"] as const) {
      for (const said of await world.call("place", [combine, by])) {
        expect(Object.keys(said).length).toBe(7);
        for (const [place, tag] of Object.entries(said)) expect([by, place, tag]).toEqual([by, place, "ArgumentError"]);
      }
    }
  }
});
