import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { runRank } from "@lockstep/dist-groups/rank";
import { ArgumentError } from "@lockstep/tensor";
import { RankMisplaced } from "../../src/index.ts";
import * as program from "../world-program.ts";
import { OWN_WORKER_CASES } from "./own-worker-cases.ts";

setDefaultTimeout(120_000);

for (const { name, sizes, run } of OWN_WORKER_CASES) {
  describe(name, () => {
    test.each([...sizes])("%i ranks", async (size) => {
      await run(size);
    });
  });
}

test("runRank outside a worker is refused", () => {
  expect(() => runRank(program)).toThrow(RankMisplaced);
  expect(() => runRank(program)).toThrow(/runRank was called outside a worker/);
  expect(() => runRank({} as never)).toThrow(ArgumentError);
});
