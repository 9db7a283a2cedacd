// World-invariant attention over many more sequences, layouts and steps than in its test.
import { describe, setDefaultTimeout, test } from "bun:test";
import { checkInvariance, WORLDS } from "./world-invariance-cases.ts";

setDefaultTimeout(1_800_000);

describe("world-invariant attention has the bits of one rank", () => {
  test("reference, 10 cases", () => checkInvariance("reference", WORLDS, 10, 9));
});
