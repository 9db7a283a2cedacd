import { expect, test } from "bun:test";
import type { FlightOp, FlightRecord } from "@lockstep/dist-groups";
import { flightMessage, MOST_GROUPS, MOST_OPS, MOST_RANKS } from "./flight-message.ts";

const op = (sequence: number, endMs: number | undefined): FlightOp => ({
  sequence,
  op: "allReduce",
  dtype: "f32",
  reduction: "sum",
  shape: [4, 8],
  bytes: 96,
  startMs: 100,
  endMs,
  state: endMs === undefined ? "waiting" : "done",
});

test("says what each rank does, for how long, and who is behind", () => {
  const record: FlightRecord = {
    takenAtMs: 700,
    groups: [
      {
        group: "dcp",
        generation: 1,
        ranks: [
          { rank: 0, started: 2, ops: [op(0, 150), op(1, undefined)] },
          { rank: 1, started: 1, ops: [op(0, 160)] },
          { rank: 2, started: 0, ops: [] },
        ],
      },
    ],
  };
  const done = { sequence: 0, what: "allReduce sum f32 [4, 8]", bytes: 96, state: "done", sinceStartMs: 600 } as const;
  expect(flightMessage(record, 3200)).toEqual({
    stuckMs: 3200,
    groups: [
      {
        group: "dcp",
        ranks: [
          {
            rank: 0,
            started: 2,
            behind: false,
            ops: [
              { ...done, sinceEndMs: 550 },
              { ...done, sequence: 1, state: "waiting" },
            ],
          },
          { rank: 1, started: 1, behind: true, ops: [{ ...done, sinceEndMs: 540 }] },
          { rank: 2, started: 0, behind: true, ops: [] },
        ],
      },
    ],
  });
});

test("a barrier has neither type nor shape", () => {
  const barrier = { ...op(0, 1), op: "barrier", dtype: undefined, reduction: undefined, shape: [] };
  const groups = [{ group: "world", generation: 1, ranks: [{ rank: 0, started: 1, ops: [barrier] }] }];
  expect(flightMessage({ takenAtMs: 5, groups }, 1).groups[0]?.ranks[0]?.ops[0]?.what).toBe("barrier");
});

test("is bounded, and keeps what came last", () => {
  const ops = Array.from({ length: 256 }, (_, sequence) => op(sequence, 5));
  const ranks = Array.from({ length: 200 }, (_, rank) => ({ rank, started: 256, ops }));
  const groups = Array.from({ length: 30 }, (_, index) => ({ group: `g${index}`, generation: index, ranks }));
  const message = flightMessage({ takenAtMs: 10, groups }, 1);
  expect(message.groups.map(({ group }) => group)).toEqual(
    Array.from({ length: MOST_GROUPS }, (_, index) => `g${30 - MOST_GROUPS + index}`),
  );
  for (const { ranks: told } of message.groups) {
    expect(told.length).toBe(MOST_RANKS);
    for (const { ops: last } of told) {
      expect(last.map(({ sequence }) => sequence)).toEqual(
        Array.from({ length: MOST_OPS }, (_, at) => 256 - MOST_OPS + at),
      );
    }
  }
});
