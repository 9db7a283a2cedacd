import { expect, test } from "bun:test";
import { CoreSpread } from "./core-spread.ts";
import type { NativeScheduler } from "./native-scheduler.ts";
import { RankStatus } from "./rank-status.ts";

/** A thread on `core` that remembers which cores it left. */
function threadOn(core: number): NativeScheduler & { readonly left: number[] } {
  const left: number[] = [];
  return { left, yieldCore() {}, currentCore: () => core, leaveCore: (from) => left.push(from) };
}

function openStatus(): RankStatus {
  return new RankStatus(new SharedArrayBuffer(RankStatus.totalWords(2) * 4), 0, 2, Date.now());
}

test("of two ranks that wait for each other on one core, the later moves, and not at every wait", () => {
  const status = openStatus();
  const [first, second] = [threadOn(3), threadOn(3)];
  new CoreSpread(0, status, first).waitedFor(1);
  const spread = new CoreSpread(1, status, second);
  expect([spread.waitedFor(0), spread.waitedFor(0)]).toEqual([true, true]);
  expect([first.left, second.left]).toEqual([[], [3]]);
});

test("a rank that was woken on the core of the rank that woke it moves, whichever it is", () => {
  for (const [waker, woken] of [
    [0, 1],
    [1, 0],
  ] as const) {
    const status = openStatus();
    const [first, second] = [threadOn(2), threadOn(2)];
    new CoreSpread(waker, status, first).wakes();
    new CoreSpread(woken, status, second).wokenBy(waker);
    expect([first.left, second.left]).toEqual([[], [2]]);
  }
});

test("ranks on different cores stay, and so do ranks whose core nobody tells", () => {
  for (const cores of [
    [0, 1],
    [-1, -1],
  ] as const) {
    const status = openStatus();
    const [first, second] = [threadOn(cores[0]), threadOn(cores[1])];
    new CoreSpread(0, status, first).waitedFor(1);
    const spread = new CoreSpread(1, status, second);
    expect(spread.waitedFor(0)).toBe(false);
    spread.wokenBy(0);
    expect([first.left, second.left]).toEqual([[], []]);
  }
});
