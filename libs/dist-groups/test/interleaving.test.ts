import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { interleave } from "./interleaving/interleave.ts";
import type { Mutation } from "./interleaving/rank-job.ts";

setDefaultTimeout(600_000);

/** `bun run test:interleavings` has as many as one likes. */
const RUNS = 1000;

describe("real ranks in an order that a seed decides", () => {
  test.each([2, 3, 4])("%i ranks: right data in every interleaving, and no lost wake-up", async (ranks) => {
    const { wrong, statistics } = await interleave({ ranks, runs: RUNS, firstSeed: 0, withFaults: false });
    expect(wrong).toEqual([]);
    expect(statistics.length).toBe(RUNS);
    expect(statistics.filter(({ idleTimeouts }) => idleTimeouts > 0)).toEqual([]);
    expect(new Set(statistics.map(({ trace }) => trace)).size).toBeGreaterThan(0.9 * RUNS);
  });

  test.each([2, 3, 4])("%i ranks: every rank comes out of every fault with the error it must have", async (ranks) => {
    const { wrong, failuresSeen } = await interleave({ ranks, runs: RUNS, firstSeed: RUNS, withFaults: true });
    expect(wrong).toEqual([]);
    expect(failuresSeen).toBe(RUNS * ranks);
  });

  test("a seed gives the same interleaving every time", async () => {
    const traces = async (): Promise<number[]> => {
      const { statistics } = await interleave({ ranks: 3, runs: 200, firstSeed: 7, withFaults: true });
      return statistics.map(({ trace }) => trace);
    };
    expect(await traces()).toEqual(await traces());
  });

  test.each<Mutation>([
    "notify is lost",
    "sleeper is not counted",
    "park does not compare",
    "nobody acknowledges",
    "slots do not alternate",
  ])("would tell when %s", async (mutation) => {
    const { wrong, statistics } = await interleave({
      ranks: 3,
      runs: 400,
      firstSeed: 0,
      withFaults: false,
      mutation,
    });
    const lost = statistics.filter(({ idleTimeouts }) => idleTimeouts > 0);
    expect(wrong.length + lost.length).toBeGreaterThan(0);
  });
});
