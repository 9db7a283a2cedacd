import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "./index.ts";

setDefaultTimeout(60_000);

test("a read that an abort overtook fails on every rank instead of returning torn data", async () => {
  await using world = await openWorld<typeof import("../test/abort-race-program.ts")>({
    size: 2,
    program: new URL("../test/abort-race-program.ts", import.meta.url),
  });
  const interrupted = world.call("readSlowly", [800], { signal: AbortSignal.timeout(200) }).then(
    () => "completed",
    (error: Error) => error.name,
  );
  expect(await interrupted).toBe("CallInterrupted");
  await Bun.sleep(1000);
  expect(await world.call("outcome", [])).toEqual(["GroupAborted", "GroupAborted"]);
});
