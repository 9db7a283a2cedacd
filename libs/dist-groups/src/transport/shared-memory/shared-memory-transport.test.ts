import { expect, spyOn, test } from "bun:test";
import { controlBlockLayout } from "./control-block.ts";
import { CoreSpread } from "./core-spread.ts";
import { RankStatus } from "./rank-status.ts";
import { SharedMemoryTransport } from "./shared-memory-transport.ts";
import { SpinBudget } from "./spin-budget.ts";

const STAGING_BYTES = 128;

/**
 * The transport of rank 1 of 2, whose peer runs on `peerCore`, while it runs on core 3. The peer arrives when the core
 * is given away to it, or before that, in `spin`, or not at all.
 */
function waitingRank(setting: {
  readonly peerCore: number;
  readonly cores: number;
  readonly isHeld?: boolean;
  readonly arrives: "spin" | "yield" | "never";
}) {
  const layout = controlBlockLayout(2, STAGING_BYTES);
  const buffer = new SharedArrayBuffer(4 * layout.totalWords);
  const status = new RankStatus(new SharedArrayBuffer(RankStatus.totalWords(2) * 4), 0, 2, Date.now());
  status.runsOn(0, setting.peerCore);
  const left: number[] = [];
  let yields = 0;
  const arrive = (): void => void Atomics.store(new Int32Array(buffer), layout.progressWord(0), 1);
  const scheduler = {
    yieldCore() {
      yields++;
      if (setting.arrives === "yield") arrive();
    },
    currentCore: () => 3,
    leaveCore: (core: number) => void left.push(core),
  };
  const budget = new SpinBudget(2, setting.cores, true);
  if (setting.isHeld) for (const at of [0, 4, 8]) budget.yieldedFor(3, at);
  expect(budget.isHeld).toBe(setting.isHeld === true);
  const waiting = { budget, scheduler, spread: new CoreSpread(1, status, scheduler) };
  const place = { byteOffset: 0, stagingBytes: STAGING_BYTES, initialProgress: 0 };
  const transport = new SharedMemoryTransport(place, [0, 1], 1, buffer, status, waiting);
  const spins = spyOn(transport, "spin");
  if (setting.arrives === "spin") {
    spins.mockImplementation(() => {
      arrive();
      return true;
    });
  }
  transport.publish();
  return {
    arrive,
    /** A whole wait or, from its second turn on, what follows a park. */
    wait(turn: number) {
      const now = performance.now();
      transport.wait(0, turn, now, now);
      return { arrived: transport.hasArrived(0), spins: spins.mock.calls.length, yields, left };
    },
  };
}

test("a rank whose peer is on its core moves and gives the core away at once", () => {
  const { wait } = waitingRank({ peerCore: 3, cores: 2, arrives: "yield" });
  expect(wait(0)).toEqual({ arrived: true, spins: 0, yields: 1, left: [3] });
});

test("a rank whose peer is on another core, or on none that is known, looks on first and stays", () => {
  for (const peerCore of [2, -1]) {
    const { wait } = waitingRank({ peerCore, cores: 2, arrives: "spin" });
    expect(wait(0)).toEqual({ arrived: true, spins: 1, yields: 0, left: [] });
  }
});

test("a rank whose peer does not come while it looks on gives the core away then", () => {
  const { wait } = waitingRank({ peerCore: 2, cores: 2, arrives: "yield" });
  const { arrived, spins, yields } = wait(0);
  expect([arrived, spins > 0, yields]).toEqual([true, true, 1]);
});

test("with more ranks than cores a rank gives the core away at once", () => {
  const { wait } = waitingRank({ peerCore: 2, cores: 1, arrives: "yield" });
  expect(wait(0)).toEqual({ arrived: true, spins: 0, yields: 1, left: [] });
});

test("while other programs want the cores a rank neither moves nor gives its core away", () => {
  for (const [peerCore, arrives] of [
    [3, "never"],
    [2, "spin"],
  ] as const) {
    const { wait, arrive } = waitingRank({ peerCore, cores: 2, isHeld: true, arrives });
    expect(wait(0)).toEqual({ arrived: arrives === "spin", spins: peerCore === 3 ? 0 : 1, yields: 0, left: [] });
    // It is woken where its peer runs.
    arrive();
    expect(wait(1)).toMatchObject({ arrived: true, left: [] });
  }
});

test("a rank that was woken on its peer's core moves", () => {
  const { wait, arrive } = waitingRank({ peerCore: 3, cores: 2, arrives: "never" });
  arrive();
  expect(wait(1)).toMatchObject({ arrived: true, left: [3] });
});
