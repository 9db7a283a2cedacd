// What every transport must do, whatever carries the bytes: the same collectives with the same bits, blocking and
// asynchronous, staged and direct, and the same typed errors.

import { describe, expect, test } from "bun:test";
import { DTYPES } from "@lockstep/tensor";
import * as fc from "fast-check";
import {
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  type OptionsDisagree,
  RankCrashed,
  ReentrantCollective,
} from "../../src/errors/errors.ts";
import { SUMMED_DTYPES } from "../collective-cases.ts";
import { standardCases } from "../collective-suite.ts";
import { MISMATCH_KINDS, type Report } from "../fault-program.ts";
import type { LawCase } from "../law-program.ts";
import type { Settled, Subject } from "./conforming-group.ts";

/** Small, so that the cases cover both protocols. */
export const STAGING_BYTES = 2048;
const REPEATS = 2;
const SIZES = [1, 2, 3, 4];

export const COLLECTIVES = {
  allGather: standardCases("allGather", { dims: true, inPlace: true }),
  allGatherCoalesced: standardCases("allGatherCoalesced", { dims: true, inPlace: true }),
  reduceScatter: standardCases("reduceScatter", { dims: true, reductions: true, inPlace: true }),
  allReduce: standardCases("allReduce", { reductions: true, inPlace: true }),
  allToAll: standardCases("allToAll", {}),
  broadcast: standardCases("broadcast", { roots: true }),
  readPeers: standardCases("readPeers", {}),
};

export const program = (name: string): URL => new URL(`../${name}.ts`, import.meta.url);
const everyone = (size: number): number[] => Array.from({ length: size }, (_, rank) => rank);

export function errorOf(outcome: Settled | undefined): unknown {
  return outcome !== undefined && "error" in outcome ? outcome.error : undefined;
}

/** Holds every subject to what every transport must do, and all of them to the same bits. */
export function conformanceSuite(subjects: readonly Subject[]): void {
  describe.each([...subjects])("$name", (subject) => {
    const open = (size: number, name: string, stagingBytes = STAGING_BYTES) =>
      subject.open({ size, program: program(name), stagingBytes });

    describe.each(SIZES)("%i ranks", (size) => {
      test("every collective, bit for bit", async () => {
        await using group = await open(size, "collective-program");
        for (const cases of Object.values(COLLECTIVES)) {
          const results = await group.call("run", cases, 11 * size, REPEATS);
          expect(results).toEqual(everyone(size).map(() => ({ cases: cases.length, leaked: 0 })));
        }
      });

      test("every collective, blocking and asynchronous, mixed", async () => {
        await using group = await open(size, "async-program");
        for (const asyncRanks of [[], everyone(size), [0]]) {
          for (const count of [3, 3000]) {
            expect(await group.call<number>("all", count, 2, asyncRanks)).toEqual(everyone(size).map(() => 0));
            await group.call("rings", count, asyncRanks);
          }
        }
      });

      test("transfers of every dtype between every pair", async () => {
        await using group = await open(size, "async-program");
        for (const dtype of DTYPES)
          for (const count of [5, 3000]) await group.call("transfer", 0, size - 1, dtype, count);
        for (const from of everyone(size)) {
          for (const to of everyone(size)) await group.call("transfer", from, to, "f32", 9);
        }
      });

      test("agreement about options, of any length", async () => {
        await using group = await open(size, "agree-program");
        for (const asyncRanks of [[], [0]]) {
          for (const length of [0, 1021, 16_000]) {
            const fields = { text: "y".repeat(length), scale: 0.125 };
            const same = await group.call("agree", ["Thing.open"], [fields], asyncRanks);
            expect(same).toEqual(everyone(size).map(() => ({ error: undefined, message: "", leaked: 0 })));
            if (size === 1) continue;
            const each = everyone(size).map((rank) => (rank === size - 1 ? { ...fields, scale: 0.25 } : fields));
            const differ = await group.call<{ error: OptionsDisagree }>("agree", ["Thing.open"], each, asyncRanks);
            for (const { error } of differ) {
              expect(error).toMatchObject({
                option: "scale",
                sides: [
                  { ranks: everyone(size - 1), value: "0.125" },
                  { ranks: [size - 1], value: "0.25" },
                ],
              });
            }
          }
        }
      });

      if (size > 1) {
        test("a mismatch is told to every rank, with both sides", async () => {
          for (const kind of size === 3 ? MISMATCH_KINDS : ["op", "pair"]) {
            await using group = await open(size, "fault-program");
            const outcomes = await group.settle("mismatch", kind, [1], 30, "world");
            const [first] = outcomes;
            for (const outcome of outcomes) {
              const error = errorOf(outcome);
              expect(error).toBeInstanceOf(CollectiveMismatch);
              expect(error).toHaveProperty("sequence", 30);
              expect(error).toHaveProperty("sides", (errorOf(first) as CollectiveMismatch).sides);
            }
            for (const later of await group.settle("work", "world", 1)) {
              expect(errorOf(later)).toBeInstanceOf(GroupAborted);
              expect(errorOf(later)).toHaveProperty("cause._tag", "CollectiveMismatch");
            }
          }
        });

        test("ranks that do not come by the deadline are named on every rank that waited", async () => {
          await using group = await open(size, "fault-program");
          const missing = size === 4 ? [1, 3] : [1];
          const deadlineMs = 1_000;
          const outcomes = await group.settle("late", missing, 100_000, deadlineMs, "world");
          for (const [rank, outcome] of outcomes.entries()) {
            const error = errorOf(outcome);
            if (missing.includes(rank)) {
              expect(error).toBeInstanceOf(GroupAborted);
              expect(error).toHaveProperty("failedRanks", missing);
              expect(error).toHaveProperty("cause._tag", "CollectiveTimeout");
            } else {
              expect(error).toBeInstanceOf(CollectiveTimeout);
              expect(error).toMatchObject({ missing, op: "barrier", sequence: 0, deadlineMs, group: "world" });
            }
          }
        });

        test.each(["throwBefore", "throwDuring", "throwAfter"])(
          "a rank that fails frees its peers: %s",
          async (method) => {
            await using group = await open(size, "fault-program");
            const outcomes = await group.settle(method, 1);
            for (const [rank, outcome] of outcomes.entries()) {
              const error = errorOf(outcome);
              if (rank === 1) expect(error).toHaveProperty("message", expect.stringContaining("boom"));
              else {
                expect(error).toBeInstanceOf(GroupAborted);
                expect(error).toHaveProperty("failedRanks", [1]);
                expect(error).toHaveProperty("cause._tag", "RankCrashed");
              }
            }
            const again = errorOf((await group.settle("work", "world", 1))[0]);
            expect(again).toBeInstanceOf(GroupAborted);
            expect(again).toHaveProperty("message", expect.stringContaining("boom"));
          },
        );

        test.each(["spin", "waitFor"])("a rank that dies frees its peers: %s", async (method) => {
          const isAsync = method === "waitFor";
          await using group = await open(size, isAsync ? "async-program" : "fault-program");
          const calls = isAsync ? group.start("waitFor", "world", 1, 100_000) : group.start("spin", 1, 100_000);
          await new Promise((resolve) => setTimeout(resolve, 100));
          group.kill(1);
          for (const rank of everyone(size).filter((rank) => rank !== 1)) {
            const error = errorOf(await calls[rank]);
            expect(error).toBeInstanceOf(GroupAborted);
            expect(error).toHaveProperty("failedRanks", [1]);
            expect((error as GroupAborted).cause).toBeInstanceOf(RankCrashed);
          }
        });
      }

      test("a collective within a collective is refused", async () => {
        await using group = await open(size, "fault-program");
        const errors = (await group.settle("reenter")).map(errorOf);
        // The first to refuse aborts the group.
        expect(errors.some((error) => error instanceof ReentrantCollective)).toBe(true);
        for (const error of errors) {
          expect(error instanceof ReentrantCollective || error instanceof GroupAborted).toBe(true);
        }
      });

      test("a rank's counters and reports", async () => {
        await using group = await open(size, "fault-program");
        await group.call("work", "world", 3);
        for (const counters of await group.call<{ ops: number; bytesReceived: number }>("counters")) {
          expect(counters).toMatchObject({ ops: 7 });
          expect(counters.bytesReceived > 0).toBe(size > 1);
        }
        for (const report of await group.call<Report>("report")) expect(report.error).toBe("none");
      });
    });
  });

  describe.each(SIZES)("%i ranks", (size) => {
    test("the laws hold, and the bits do not depend on the transport", async () => {
      const lawCase: fc.Arbitrary<LawCase> = fc
        .record({
          dtype: fc.constantFrom(...SUMMED_DTYPES),
          shape: fc.array(fc.integer({ min: 0, max: 24 }), { minLength: 1, maxLength: 3 }),
          dim: fc.nat({ max: 2 }),
          reduction: fc.constantFrom("sum" as const, "max" as const, "min" as const),
          deterministic: fc.constantFrom("rank-order" as const, "world-invariant" as const),
          seed: fc.nat({ max: 1e6 }),
        })
        .map((drawn) => ({ ...drawn, dim: drawn.dim % drawn.shape.length }));
      const cases = fc.sample(lawCase, { numRuns: 10, seed: 40 + size });
      const digests = new Set<number>();
      for (const subject of subjects) {
        // Mostly direct, half and half, mostly staged.
        for (const stagingBytes of [1280, 4096, 65_536]) {
          await using group = await subject.open({
            size,
            program: program("law-program"),
            stagingBytes,
          });
          for (const digest of await group.call<number>("laws", cases)) digests.add(digest);
          expect(await group.call("soak", ["world"], 60, 5 + size)).toEqual(everyone(size).map(() => 60));
        }
      }
      expect([...digests]).toHaveLength(1);
    });
  });
}
