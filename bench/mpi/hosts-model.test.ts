import { expect, test } from "bun:test";
import { stepSeconds, trafficOf } from "./hosts-model.ts";

const NETWORK = { name: "wire", latency: 1e-6, bandwidth: 1e9, perPeer: 1e-7 };
const COMPUTE = { perToken: 1e-7, fixed: 1e-5 };

test("a rank alone only computes", () => {
  const step = { queryHeads: 16, headDim: 64, batch: 2, context: 1000 };
  expect(trafficOf(step, 1)).toEqual({ bytes: 0, rounds: 0 });
  expect(stepSeconds(step, 1, COMPUTE, NETWORK)).toBeCloseTo(1e-5 + 2000 * 1e-7, 12);
});

test("large messages: the bytes of the semantics, a gather and an exchange, three rounds each", () => {
  const step = { queryHeads: 64, headDim: 128, batch: 64, context: 1000 };
  const whole = 64 * 64 * 4;
  // (N - 1) / N of the queries, and of the partial outputs with an LSE each.
  expect(trafficOf(step, 8)).toEqual({ bytes: (7 / 8) * whole * 128 + (7 / 8) * whole * 129, rounds: 6 });
});

test("small messages go in a round each, the exchange as a whole to every peer", () => {
  const step = { queryHeads: 16, headDim: 64, batch: 1, context: 1000 };
  expect(trafficOf(step, 4)).toEqual({ bytes: (3 / 4) * 16 * 64 * 4 + 3 * (3 / 4) * 16 * 65 * 4, rounds: 2 });
});

test("ranks that share cores take turns", () => {
  const step = { queryHeads: 16, headDim: 64, batch: 1, context: 1e6 };
  const free = stepSeconds(step, 4, COMPUTE, {
    ...NETWORK,
    bandwidth: Number.POSITIVE_INFINITY,
    latency: 0,
    perPeer: 0,
  });
  const shared = stepSeconds(
    step,
    4,
    COMPUTE,
    { ...NETWORK, bandwidth: Number.POSITIVE_INFINITY, latency: 0, perPeer: 0 },
    2,
  );
  expect(shared).toBeCloseTo(2 * free, 12);
});
