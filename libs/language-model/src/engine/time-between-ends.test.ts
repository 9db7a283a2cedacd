import { expect, test } from "bun:test";
import { TimeBetweenEnds } from "./time-between-ends.ts";

test("the mean follows the times between ends", () => {
  const times = new TimeBetweenEnds();
  expect(times.meanMs).toBe(1000);
  times.began(0);
  for (let end = 1; end <= 50; end++) times.ended(end * 40);
  expect(times.meanMs).toBeCloseTo(40, 0);
});

test("a night without requests is no time that a request takes", () => {
  const times = new TimeBetweenEnds();
  const night = 8 * 3_600_000;
  times.began(night);
  times.ended(night + 100);
  expect(times.meanMs).toBeCloseTo(820, 6);
  times.began(2 * night);
  times.ended(2 * night + 100);
  expect(times.meanMs).toBeCloseTo(676, 6);
});
