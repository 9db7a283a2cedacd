import { expect, spyOn, test } from "bun:test";
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

/** Two ranks on cores, each of which knows where the other runs, as after some waits. */
function ranksOn(cores: readonly [number, number]) {
  const status = openStatus();
  const threads = [threadOn(cores[0]), threadOn(cores[1])] as const;
  const spreads = [new CoreSpread(0, status, threads[0]), new CoreSpread(1, status, threads[1])] as const;
  spreads[0].sharesCoreWith(1);
  spreads[1].sharesCoreWith(0);
  return { spreads, left: () => threads.map((thread) => thread.left) };
}

test("of two ranks that wait for each other on one core, the later moves, and not at every wait", () => {
  const { spreads, left } = ranksOn([3, 3]);
  const [first, second] = spreads;
  expect([first.sharesCoreWith(1), second.sharesCoreWith(0)]).toEqual([true, true]);
  expect(left()).toEqual([[], []]);
  const clock = spyOn(performance, "now");
  try {
    for (const [now, moves] of [
      [1000, [3]],
      [1004, [3]],
      [1006, [3, 3]],
    ] as const) {
      clock.mockReturnValue(now);
      first.partFrom(1);
      second.partFrom(0);
      expect(left()).toEqual([[], [...moves]]);
    }
  } finally {
    clock.mockRestore();
  }
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
    const { spreads, left } = ranksOn(cores);
    const [first, second] = spreads;
    expect([first.sharesCoreWith(1), second.sharesCoreWith(0)]).toEqual([false, false]);
    second.partFrom(0);
    second.wokenBy(0);
    expect(left()).toEqual([[], []]);
  }
});
