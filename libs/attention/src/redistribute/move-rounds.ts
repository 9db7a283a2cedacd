import type { RowRun } from "./row-runs.ts";

/** Cuts runs into rounds in which no end sends, receives or keeps more than `most` rows. Every rank cuts alike. */
export function* moveRounds(
  runs: Iterable<RowRun>,
  { from: fromRanks, to: toRanks }: { readonly from: readonly number[]; readonly to: readonly number[] },
  most: number,
): Generator<RowRun[]> {
  let round: RowRun[] = [];
  const counts = new RowCounts();
  for (const run of runs) {
    const [from, to] = [fromRanks[run.from], toRanks[run.to]];
    if (from === undefined || to === undefined) throw new RangeError("a shard has no rank");
    for (let done = 0; done < run.count; ) {
      const count = Math.min(run.count - done, most - counts.of(from, to));
      if (count <= 0) {
        yield round;
        round = [];
        counts.clear();
        continue;
      }
      counts.add(from, to, count);
      round.push({ from, fromSlot: run.fromSlot + done, to, toSlot: run.toSlot + done, count });
      done += count;
    }
  }
  if (round.length > 0) yield round;
}

/** Rows that each rank sends, receives and keeps in a round. */
class RowCounts {
  readonly #sent = new Map<number, number>();
  readonly #received = new Map<number, number>();
  readonly #kept = new Map<number, number>();

  /** Rows of the busier of the two ranks. */
  of(from: number, to: number): number {
    if (from === to) return this.#kept.get(from) ?? 0;
    return Math.max(this.#sent.get(from) ?? 0, this.#received.get(to) ?? 0);
  }

  add(from: number, to: number, count: number): void {
    const lists =
      from === to ? [[this.#kept, from] as const] : [[this.#sent, from] as const, [this.#received, to] as const];
    for (const [counts, rank] of lists) counts.set(rank, (counts.get(rank) ?? 0) + count);
  }

  clear(): void {
    for (const counts of [this.#sent, this.#received, this.#kept]) counts.clear();
  }
}
