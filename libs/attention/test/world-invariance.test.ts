// World-invariant attention: outputs and LSEs have the same bits on any number of ranks, in any layout, pages, steps
// and chunks, by any combine, and are as near to float64 as the plain ones.
import { describe, setDefaultTimeout, test } from "bun:test";
import type { TestBackend } from "./test-backend.ts";
import { checkInvariance, WORLDS } from "./world-invariance-cases.ts";

setDefaultTimeout(180_000);

describe("world-invariant attention has the bits of one rank", () => {
  test.each([
    ["wasm", 4, /./],
    ["wasm own", 2, /3 ranks: classic/],
    ["reference", 2, /3 ranks: classic|4 ranks: queries/],
    ["webgpu", 1, /^2 ranks: classic TP2 PCP1/],
    ["webgpu shared", 2, /3 ranks: classic|4 ranks: queries/],
  ] as const satisfies readonly (readonly [TestBackend, number, RegExp])[])("%s, %d cases", (backend, cases, chosen) =>
    checkInvariance(
      backend,
      WORLDS.filter(({ name }) => chosen.test(name)),
      cases,
      5,
    ),
  );
});
