// A key or value that is not finite shows in the rows that see it, and only there, whichever rank stores it.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Combine } from "@lockstep/attention";
import { openWorld } from "@lockstep/dist-groups";
import fc from "fast-check";
import type * as program from "./non-finite-program.ts";
import { type DamagedCase, HEAD_DIM, VALUE_DIM } from "./non-finite-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(600_000);

const cases = fc
  .record({
    tokens: fc.integer({ min: 1, max: 12 }),
    place: fc.constantFrom<"key" | "value">("key", "value"),
    value: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    at: fc.nat(),
    faint: fc.boolean(),
    combine: fc.constantFrom<Combine>("ag-rs", "a2a", "one-shot"),
    kvDtype: fc.constantFrom("f32", "f16", "bf16", "f8e4m3"),
    window: fc.constantFrom(undefined, 3),
    prefillChunk: fc.constantFrom(undefined, undefined, 2, 5, 100),
    rounds: fc.boolean(),
    perToken: fc.boolean(),
  })
  .map(({ tokens, place, value, at, faint, combine, kvDtype, window, prefillChunk, rounds, perToken }): DamagedCase => {
    const column = at % (place === "key" ? HEAD_DIM : VALUE_DIM);
    return {
      tokens,
      damage: {
        place,
        token: at % tokens,
        column,
        value,
        faint: faint && place === "value",
      },
      combine,
      kvDtype,
      perToken,
      ...(window === undefined ? {} : { window }),
      ...(prefillChunk === undefined ? {} : { prefillChunk }),
      ...(rounds && combine === "a2a" ? { partialDtype: "bf16" as const } : {}),
    } as DamagedCase;
  });

function expectDamage(drawn: DamagedCase, { own, out, lse }: { own: number; out: number[]; lse: number[] }): void {
  const { damage, tokens, window } = drawn;
  for (let row = 0; row < tokens * own; row++) {
    const token = Math.floor(row / own);
    const sees = damage.token <= token && (window === undefined || damage.token > token - window);
    const seen = { row, sees, lse: lse[row], out: out.slice(row * VALUE_DIM, (row + 1) * VALUE_DIM) };
    if (damage.place === "key" && sees) {
      expect([seen, Number.isNaN(seen.lse), seen.out.every(Number.isNaN)]).toEqual([seen, true, true]);
      continue;
    }
    const finite = seen.out.map(Number.isFinite);
    const expected = finite.map((_, column) => !(sees && damage.place === "value" && column === damage.column));
    expect([seen, Number.isFinite(seen.lse), finite]).toEqual([seen, true, expected]);
  }
}

const WORLDS: readonly [backend: TestBackend, size: number, runs: number][] = [
  ["wasm", 1, 60],
  ["wasm", 2, 60],
  ["wasm", 3, 60],
  ["wasm", 4, 60],
  ["wasm", 8, 40],
  ["reference", 3, 40],
  ["webgpu", 1, 20],
  ["webgpu shared", 4, 20],
  ["webgpu", 2, 20],
  ["webgpu", 3, 12],
];

describe("what is not finite shows, whichever rank stores it", () => {
  test.each(WORLDS)("on %s with %i ranks", async (backend, size, numRuns) => {
    await using world = await openWorld<typeof program>({
      size,
      program: new URL("./non-finite-program.ts", import.meta.url),
      options: { backend },
    });
    await fc.assert(
      fc.asyncProperty(cases, async (drawn) => {
        for (const result of await world.call("run", [drawn])) expectDamage(drawn, result);
      }),
      { numRuns, seed: 5 + size },
    );
  });
});

test.each(WORLDS.map(([backend, size]) => [backend, size] as const))(
  "an int8 cache refuses what it cannot store, and loses nothing, on %s with %i ranks",
  async (backend, size) => {
    await using world = await openWorld<typeof program>({
      size,
      program: new URL("./non-finite-program.ts", import.meta.url),
      options: { backend },
    });
    for (const [place, value, prefill] of [
      ["key", Number.NaN, "none"],
      ["value", Number.NEGATIVE_INFINITY, "none"],
      ["value", Number.NaN, "alone"],
      ["key", Number.POSITIVE_INFINITY, "shared"],
    ] as const) {
      // Scales of tokens leave NaN and infinities out, and are no way around the check.
      const perToken = prefill === "none";
      for (const { said, length, before, after } of await world.call("refusedByInt8", [
        place,
        value,
        prefill,
        perToken,
      ])) {
        expect([said[0], said[2]]).toEqual(["NonFiniteKeyValue", "NonFiniteKeyValue"]);
        expect(said[1]).toContain(`the ${place} of new token`);
        expect(said[1]).toContain(`layer 1, KV head 1, holds ${value}`);
        expect(length).toBe(5);
        expect(after).toEqual(before);
      }
    }
  },
);
