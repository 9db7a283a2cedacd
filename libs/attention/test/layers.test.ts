import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./layers-program.ts";

setDefaultTimeout(60_000);

describe.each([1, 2, 3, 4, 8])("%d ranks", (size) => {
  const open = () =>
    openWorld<typeof program>({ size, program: new URL("./layers-program.ts", import.meta.url), deadlineMs: 30_000 });

  test("each layer has its own window, sinks and scales", async () => {
    await using world = await open();
    for (const { together, apart } of await world.call("layers", [])) {
      expect(together).toEqual(apart);
      expect(together.every(Number.isFinite)).toBe(true);
    }
  });

  test("results in 16 bits are rounded once, whatever the combine", async () => {
    await using world = await open();
    for (const half of ["f16", "bf16"] as const) {
      const expected = await world.call("halves", [half, "a2a"]);
      for (const combine of ["one-shot", "ag-rs"] as const) {
        expect(await world.call("halves", [half, combine])).toEqual(expected);
      }
      expect(expected.flat().some((value) => value !== 0)).toBe(true);
    }
  });
});
