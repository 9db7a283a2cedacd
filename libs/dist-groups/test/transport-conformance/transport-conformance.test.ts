// Transports whose ranks are workers of one process: shared memory, and pipes, which share nothing.

import { expect, setDefaultTimeout, test } from "bun:test";
import { COLLECTIVES, conformanceSuite, errorOf, program, STAGING_BYTES } from "./conformance-suite.ts";
import { workersOver } from "./conforming-group.ts";
import { BROKEN_TRANSPORTS, TRANSPORTS } from "./transports.ts";

setDefaultTimeout(120_000);

conformanceSuite(TRANSPORTS.map(workersOver));

test.each([...BROKEN_TRANSPORTS])("the suite would tell: $name", async (transport) => {
  await using group = await workersOver(transport).open({
    size: 3,
    program: program("collective-program"),
    stagingBytes: STAGING_BYTES,
    deadlineMs: 20_000,
  });
  const cases = Object.values(COLLECTIVES).flat();
  const errors = (await group.settle("run", cases, 1, 1)).map(errorOf);
  expect(errors.map((error) => error instanceof Error)).toEqual([true, true, true]);
  expect(errors.map(String).join(" ")).toContain("expected");
});
