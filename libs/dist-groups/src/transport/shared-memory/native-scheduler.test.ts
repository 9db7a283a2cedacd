import { expect, test } from "bun:test";
import { availableParallelism } from "node:os";
import { openNativeScheduler } from "./native-scheduler.ts";

test("the scheduler yields, tells the core, and moves the thread off it without pinning it", () => {
  const scheduler = openNativeScheduler();
  if (scheduler === undefined) throw new Error("Bun has FFI, so the scheduler must open");
  for (let turn = 0; turn < 100; turn++) scheduler.yieldCore();
  if (process.platform !== "linux") return;
  const seen = new Set<number>();
  for (let turn = 0; turn < 50; turn++) {
    const core = scheduler.currentCore();
    expect(core).toBeGreaterThanOrEqual(0);
    seen.add(core);
    scheduler.leaveCore(core);
  }
  // Off a core, then free again: were the thread pinned, it could not leave the next one.
  expect(seen.size).toBeGreaterThanOrEqual(Math.min(2, availableParallelism()));
});
