import { expect, test } from "bun:test";
import type { EngineStatus } from "@lockstep/language-model";
import { noTotals } from "../../test/no-totals.ts";
import { StuckWatch } from "./stuck-watch.ts";

const status = (steps: number, running = 1, state: EngineStatus["state"] = "ready"): EngineStatus => ({
  state,
  running,
  waiting: 0,
  blocks: { total: 1, used: 0, cached: 0 },
  blockTokens: 16,
  rankBlockTokens: [16],
  totals: { ...noTotals(), steps },
});

test("an engine is stuck when it computes requests without a step for long enough", () => {
  const watch = new StuckWatch(3000);
  expect(watch.stuckMs(status(5), 10_000)).toBe(0);
  expect(watch.stuckMs(status(5), 12_999)).toBe(0);
  expect(watch.stuckMs(status(5), 13_000)).toBe(3000);
  expect(watch.stuckMs(status(5), 20_000)).toBe(10_000);
  expect(watch.stuckMs(status(6), 21_000)).toBe(0);
  expect(watch.stuckMs(status(6), 23_999)).toBe(0);
  expect(watch.stuckMs(status(6), 24_000)).toBe(3000);
});

test("it is not stuck while it has nothing to do, or opens its ranks again", () => {
  const watch = new StuckWatch(3000);
  for (const idle of [status(5, 0), status(5, 1, "restarting"), status(5, 1, "failed")]) {
    expect(watch.stuckMs(idle, 0)).toBe(0);
    expect(watch.stuckMs(idle, 60_000)).toBe(0);
    // From when it has something to do, not from its last step.
    expect(watch.stuckMs(status(5), 61_000)).toBe(0);
    expect(watch.stuckMs(status(5), 63_000)).toBe(0);
    expect(watch.stuckMs(status(5), 64_000)).toBe(3000);
    expect(watch.stuckMs(status(5, 0), 65_000)).toBe(0);
  }
});
