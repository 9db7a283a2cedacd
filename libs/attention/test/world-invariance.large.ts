// World-invariant attention over many more sequences, layouts and steps than in its test.
import { describe, setDefaultTimeout, test } from "bun:test";
import { checkInvariance, WORLDS } from "./world-invariance-cases.ts";

setDefaultTimeout(1_800_000);

describe("world-invariant attention has the bits of one rank", () => {
  test.each([1, 2, 3, 4])("wasm, seed %d, 40 cases", (seed) => checkInvariance("wasm", WORLDS, 40, seed));
  test("reference, 5 cases", () => checkInvariance("reference", WORLDS, 5, 9));
});
