// Lockstep's side of the bench against OpenMPI: times cases in a world of this process. Run directly (the bench does so
// for Deno) it takes the ranks and the cases as two arguments, the latter in JSON, and prints what it measured as JSON.
import { availableParallelism } from "node:os";
import { openWorld } from "@lockstep/dist-groups";
import { type Case, type CaseTime, median } from "./cases.ts";
import type * as program from "./lockstep-program.ts";

export interface LockstepTime extends CaseTime {
  /** Undefined for small messages. */
  readonly memcpySeconds: number | undefined;
}

/** What a run of this side measured. */
export interface LockstepTimes {
  /** The bare exchange of a word between all ranks. Undefined with more ranks than cores. */
  readonly handOverSeconds: number | undefined;
  readonly times: readonly LockstepTime[];
}

/** Times cases over `ranks` ranks. Rejects when data are wrong. */
export async function timeLockstep(ranks: number, cases: readonly Case[]): Promise<LockstepTimes> {
  await using world = await openWorld<typeof program>({
    size: ranks,
    program: new URL("./lockstep-program.ts", import.meta.url),
  });
  const handOver = ranks > availableParallelism() ? undefined : await world.call("timeHandOver", []);
  const times: LockstepTime[] = [];
  for (const timed of cases) {
    const samples = await world.call("time", [timed], { deadlineMs: 120_000 });
    const copies = samples.map(({ memcpySeconds }) => memcpySeconds);
    times.push({
      name: timed.name,
      bytes: timed.bytes,
      seconds: medianOfSlowest(samples.map(({ seconds }) => seconds)),
      memcpySeconds: copies[0]?.length ? medianOfSlowest(copies) : undefined,
    });
  }
  return { handOverSeconds: handOver && medianOfSlowest(handOver), times };
}

/** Each rank's samples, batch by batch: the median over the batches of the slowest rank's sample. */
function medianOfSlowest(byRank: readonly (readonly number[])[]): number {
  const batches = byRank[0]?.length ?? 0;
  return median(
    Array.from({ length: batches }, (_, batch) => Math.max(...byRank.map((samples) => samples[batch] ?? 0))),
  );
}

if (import.meta.main) {
  const [ranks, cases] = process.argv.slice(2);
  console.log(JSON.stringify(await timeLockstep(Number(ranks), JSON.parse(cases ?? "[]") as Case[])));
}
