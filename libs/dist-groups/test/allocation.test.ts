import { expect, setDefaultTimeout, test } from "bun:test";
import { CONTROL } from "./allocation-program.ts";
import { openWorld } from "../src/index.ts";

setDefaultTimeout(120_000);

/** The heap grows by blocks of 16 KiB: a few of them are noise, one object per call is 600 KB. */
const CALLS = 20_000;
const NOISE_BYTES = 4;

test("a repeated collective allocates nothing, and the measure would tell", async () => {
  await using world = await openWorld<typeof import("./allocation-program.ts")>({
    size: 2,
    program: new URL("./allocation-program.ts", import.meta.url),
  });
  const [names = []] = await world.call("names", []);
  expect(names.length).toBeGreaterThan(20);
  for (const name of names) {
    const measure = async (): Promise<number> => Math.max(...(await world.call("bytesPerCall", [name, CALLS])));
    if (name === CONTROL) {
      expect(await measure()).toBeGreaterThan(16);
      continue;
    }
    // A just-in-time compiler may still be at work during the first.
    const bytes = Math.min(await measure(), await measure());
    expect([name, bytes < NOISE_BYTES ? "nothing" : `${bytes} bytes a call`]).toEqual([name, "nothing"]);
  }
});
