import { expect, setDefaultTimeout, test } from "bun:test";
import { untilIn } from "./until-in.ts";
import { openWorld } from "../src/index.ts";

setDefaultTimeout(60_000);

test("a read that an abort overtook fails on every rank instead of returning torn data", async () => {
  await using world = await openWorld<typeof import("./abort-race-program.ts")>({
    size: 2,
    program: new URL("./abort-race-program.ts", import.meta.url),
  });
  const controller = new AbortController();
  const interrupted = world.call("readSlowly", [800], { signal: controller.signal }).then(
    () => "completed",
    (error: Error) => error.name,
  );
  await untilIn(world, "world", [0, 1], "moving");
  controller.abort();
  expect(await interrupted).toBe("CallInterrupted");
  expect(await world.call("outcome", [])).toEqual(["GroupAborted", "GroupAborted"]);
});
