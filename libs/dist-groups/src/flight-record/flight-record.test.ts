import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { untilIn } from "../../test/until-in.ts";
import { CallTimeout, CollectiveTimeout } from "../errors/errors.ts";
import { controlBlockLayout } from "../transport/shared-memory/control-block.ts";
import { RankStatus } from "../transport/shared-memory/rank-status.ts";
import { DTYPE_CODES, FOLD_CODES, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { openWorld } from "../world/world.ts";
import { formatFlightRecord, laggards, readGroupFlight } from "./flight-record.ts";
import { FlightRecorder, readFlightRing } from "./flight-ring.ts";

type FaultProgram = typeof import("../../test/fault-program.ts");
const program = new URL("../../test/fault-program.ts", import.meta.url);
const options = { program, heapBytesPerRank: 4 << 20, deadlineMs: 10_000 };

setDefaultTimeout(120_000);

const wait = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

const signature = signatureOf(OP_CODES.allReduce, DTYPE_CODES.bf16, FOLD_CODES.max, 0, 2);

/** A recorder over memory of its own. */
function openRing() {
  const layout = controlBlockLayout(2, 1024);
  const memory = new SharedArrayBuffer((layout.totalWords + RankStatus.totalWords(2)) * 4);
  const words = new Int32Array(memory, 0, layout.totalWords);
  const status = new RankStatus(memory, layout.totalWords * 4, 2, Date.now());
  const ring = layout.flightRing(0);
  const recorder = new FlightRecorder(words, ring, status);
  const record = (sequence: number): void => {
    recorder.start(sequence, signature, [2, 3 + (sequence % 100)], 48);
  };
  return { layout, words, status, ring, recorder, record };
}

describe("the ring", () => {
  test("keeps the last 255 or 256 collectives, in order, with their arguments", () => {
    const { words, ring, recorder, record } = openRing();
    expect(readFlightRing(words, ring)).toEqual([]);
    for (let sequence = 0; sequence < 1000; sequence++) {
      record(sequence);
      recorder.moving();
      recorder.done();
    }
    const entries = readFlightRing(words, ring);
    expect(entries.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 255 }, (_, at) => 745 + at));
    for (const { sequence, shape, bytes, state } of entries) {
      expect([shape, bytes, state]).toEqual([[2, 3 + (sequence % 100)], 48, "done"]);
    }
  });

  test("goes on when the sequence number wraps around", () => {
    const { words, ring, record } = openRing();
    const first = 2 ** 31 - 300;
    for (let sequence = first; sequence < first + 600; sequence++) record(sequence);
    expect(readFlightRing(words, ring).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 255 }, (_, at) => first + 345 + at),
    );
  });

  test("tells the states apart, and the coarse clock from the real one", async () => {
    const { layout, words, status, ring, recorder, record } = openRing();
    const last = () => readFlightRing(words, ring).at(-1);
    await wait(20);
    record(0);
    expect(last()).toMatchObject({ state: "waiting", startMs: 0 });
    recorder.moving();
    expect(last()?.state).toBe("moving");
    status.tick();
    recorder.done();
    expect(last()?.state).toBe("done");
    expect(last()?.endMs).toBeGreaterThanOrEqual(15);
    record(1);
    await wait(20);
    recorder.failed();
    expect(last()?.state).toBe("failed");
    expect((last()?.endMs ?? 0) - (last()?.startMs ?? 0)).toBeGreaterThanOrEqual(15);
    const descriptor = {
      name: "pair",
      generation: 7,
      ranks: [5, 3],
      byteOffset: 0,
      stagingBytes: 1024,
      stagedLimit: 1024,
      stagedAllReduceLimit: 1024,
      initialProgress: 0,
      deadlineMs: 1,
    };
    const flight = readGroupFlight(descriptor, words, layout.flightRing);
    expect(flight).toMatchObject({
      group: "pair",
      generation: 7,
      ranks: [
        { rank: 5, started: 2 },
        { rank: 3, started: 0, ops: [] },
      ],
    });
    expect(flight.ranks[0]?.ops[0]).toMatchObject({ op: "allReduce", dtype: "bf16", reduction: "max", shape: [2, 3] });
    expect(laggards(flight)).toEqual([3]);
  });
});

describe("a world", () => {
  test("a stuck rank's record is readable while it hangs, and the table names it", async () => {
    await using world = await openWorld<FaultProgram>({ ...options, size: 3 });
    await world.call("work", ["world", 1]);
    const call = world.call("late", [[1], 3_000, 60_000, "world"]);
    await untilIn(world, "world", [0, 2], "waiting");
    await wait(150);
    const record = world.flightRecord();
    const [group] = record.groups;
    expect(group?.ranks.map(({ started, ops }) => [started, ops.at(-1)?.op, ops.at(-1)?.state])).toEqual([
      [4, "barrier", "waiting"],
      [3, "barrier", "done"],
      [4, "barrier", "waiting"],
    ]);
    expect(group === undefined ? [] : laggards(group)).toEqual([1]);
    const waiting = group?.ranks[0]?.ops.at(-1);
    expect(record.takenAtMs - (waiting?.startMs ?? 0)).toBeGreaterThan(100);
    const culprits = formatFlightRecord(record)
      .split("\n")
      .filter((line) => line.includes("behind"));
    expect(culprits.length).toBe(1);
    expect(culprits[0]).toMatch(/^1 .*barrier.*done <- behind/);
    await call;
    expect(world.flightRecord().groups[0]?.ranks.map(({ ops }) => ops.at(-1)?.state)).toEqual(["done", "done", "done"]);
  });

  test("a timeout carries the record, and its message what each rank was doing", async () => {
    await using world = await openWorld<FaultProgram>({ ...options, size: 3, groups: { all: [[0, 1, 2]] } });
    await world.call("work", ["world", 1]);
    const error = await failureOf(world.call("late", [[2], 60_000, 1_000, "all"]));
    expect(error).toBeInstanceOf(CollectiveTimeout);
    if (!(error instanceof CollectiveTimeout)) return;
    expect(error.flightRecord?.groups.map(({ group }) => group)).toEqual(["world", "all"]);
    expect(error.message).toMatch(/rank 2: outside collectives, after barrier #2 of "world"/);
    expect(error.message).toMatch(/rank 0: .* barrier #0 of "all"/);
    expect(Object.keys(error)).not.toContain("flightRecord");
  });

  test("a call that misses its deadline carries the record too", async () => {
    await using world = await openWorld<FaultProgram>({ ...options, size: 2 });
    const error = await failureOf(world.call("spin", [1, 60_000], { deadlineMs: 1_000 }));
    expect(error).toBeInstanceOf(CallTimeout);
    if (!(error instanceof CallTimeout)) return;
    expect(error.message).toContain('rank 0: waiting in barrier #0 of "world"');
    expect(error.message).toContain('rank 1: no collective of "world" yet');
    expect(error.flightRecord?.groups[0]?.ranks[1]?.ops).toEqual([]);
  });

  test("readers see only whole entries while ranks race on", async () => {
    await using world = await openWorld<FaultProgram>({ ...options, size: 2 });
    const call = world.call("work", ["world", 3000]);
    let seen = 0;
    for (let reading = 0; reading < 50; reading++) {
      for (const { ops } of world.flightRecord().groups[0]?.ranks ?? []) {
        seen += ops.length;
        ops.forEach((op, index) => {
          expect(op.sequence).toBe((ops[0]?.sequence ?? 0) + index);
          expect(["allReduce", "barrier"]).toContain(op.op);
        });
      }
      await wait(1);
    }
    await call;
    expect(seen).toBeGreaterThan(0);
  });
});
