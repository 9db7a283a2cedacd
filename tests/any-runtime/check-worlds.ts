// Opens worlds of every size over the workers it is given, runs every collective, and lets ranks fail in every way.
// Runs in Bun, in Deno, in Node and in a page alike, and is to give the same report everywhere.

import {
  CallInterrupted,
  CallTimeout,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  type MethodsOf,
  openWorld,
  RankCrashed,
  type RankWorkerSource,
  type World,
  WorldClosed,
} from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

type Program = typeof import("./program.ts");
type CheckedWorld = World<MethodsOf<Program>>;

/** What a check found. */
export interface WorldsReport {
  /** For each size of a world what all collectives brought, in hexadecimal. */
  readonly digests: Readonly<Record<string, string>>;
  /** For each way to fail the error that the host got, and the ranks that it names. */
  readonly failures: Readonly<Record<string, string>>;
}

const SIZES = [1, 2, 3, 4, 8];
const HEAP_BYTES = 4 << 20;

/**
 * Checks worlds whose ranks run `program.ts`.
 * @param worker workers whose module is `rank.ts`
 * @throws Error when ranks disagree, or come out of a failure in a way that they must not
 */
export async function checkWorlds(worker: RankWorkerSource): Promise<WorldsReport> {
  const open = (size: number, deadlineMs = 30_000): Promise<CheckedWorld> =>
    openWorld<Program>({ size, worker, heapBytesPerRank: HEAP_BYTES, heapBytesHost: HEAP_BYTES, deadlineMs });
  const digests: Record<string, string> = {};
  for (const size of SIZES) {
    await using world = await open(size, 120_000);
    const found = await world.call("collectives", []);
    if (new Set(found).size !== 1) throw new Error(`the ranks of a world of ${size} disagree: ${found.join(", ")}`);
    digests[size] = (found[0] ?? 0).toString(16).padStart(8, "0");
  }
  const failures: Record<string, string> = {};
  for (const [name, fail] of Object.entries(FAILURES)) {
    await using world = await open(3);
    failures[name] = await outcomeOf(fail(world));
    await goesOn(world);
  }
  return { digests, failures };
}

const FAILURES: Readonly<Record<string, (world: CheckedWorld) => Promise<unknown>>> = {
  "a rank throws": (world) => world.call("throws", [1]),
  "a rank throws in a timer": (world) => world.call("throwsLater", [1]),
  "a rank rejects a promise": (world) => world.call("rejects", [1]),
  "a rank ends its worker": (world) => world.call("ends", [1]),
  "a rank does not come": (world) => world.call("isMissing", [1]),
  "ranks differ": (world) => world.call("differs", []),
  "a bad argument": (world) => world.callRank(7, "rank", []),
  "an argument that cannot be copied": (world) => world.callRank(0, "rank", [() => 1] as never),
  "a call that misses its deadline": (world) => world.callRank(1, "sleeps", [2_000], { deadlineMs: 200 }),
  "a signal fires": (world) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort("enough"), 100);
    return world.callRank(1, "barrier", [], { signal: stop.signal });
  },
  "a rank is terminated while it waits for ever": async (world) => {
    const call = world.callRank(1, "waitsForEver", []);
    call.catch(() => undefined);
    await later(200);
    await world.terminateRank(1);
    return call;
  },
  "the world closes while a rank waits for a peer": async (world) => {
    const call = world.callRank(1, "barrier", []);
    call.catch(() => undefined);
    await later(200);
    await world.close();
    return call;
  },
};

/** The ranks that live go on: those of aborted groups in new ones. */
async function goesOn(world: CheckedWorld): Promise<void> {
  try {
    await world.renewGroups();
  } catch (error) {
    if (error instanceof WorldClosed) return;
    throw error;
  }
  const numbers = Tensor.from(world.heap, "f32", [2], [1, 2]);
  const living = await Promise.all([0, 1, 2].map((rank) => world.callRank(rank, "rank", []).catch(() => undefined)));
  const ranks = living.filter((rank) => rank !== undefined);
  await world.createGroup("living", ranks);
  const sums = await Promise.all(ranks.map((rank) => world.callRank(rank, "sumOver", ["living", numbers.descriptor])));
  const expected = `${ranks.length},${2 * ranks.length}`;
  if (sums.some((sum) => sum.join() !== expected)) throw new Error(`the ranks that are left bring ${sums.join(" ")}`);
}

const later = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function outcomeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RankCrashed) return `RankCrashed: rank ${error.rank}`;
    if (error instanceof CollectiveTimeout) return `CollectiveTimeout: ${error.op} without ranks ${error.missing}`;
    if (error instanceof CollectiveMismatch) return `CollectiveMismatch: ${error.sides.length} sides`;
    if (error instanceof CallTimeout || error instanceof CallInterrupted) return `${error.name}: ranks ${error.ranks}`;
    if (error instanceof GroupAborted) return `GroupAborted: because of ranks ${error.failedRanks}`;
    return error instanceof Error ? error.name : "something else";
  }
  return "no error";
}
