import { ArgumentError, describe, formatShape } from "@lockstep/tensor";
import type { CallTimeout, CollectiveTimeout } from "../errors/errors.ts";
import { isList, readSafely } from "../errors/printed-value.ts";
import { decodeSignature } from "../wire/collective-header.ts";
import type { FlightOp, FlightRecord, GroupFlight, RankFlight } from "../wire/flight-types.ts";
import { readFlightRing } from "./flight-ring.ts";

/** Reads the flight rings of a group. `ringOf` is the first word of the ring of a place in the group. */
export function readGroupFlight(
  group: { readonly name: string; readonly generation: number; readonly ranks: readonly number[] },
  words: Int32Array,
  ringOf: (place: number) => number,
): GroupFlight {
  const ranks = group.ranks.map((rank, place): RankFlight => {
    const ops = readFlightRing(words, ringOf(place)).map((entry): FlightOp => {
      const { op, dtype, reduction } = decodeSignature(entry.signature);
      const { sequence, shape, bytes, startMs, state } = entry;
      const endMs = state === "done" || state === "failed" ? entry.endMs : undefined;
      return { sequence, op, dtype, reduction, shape, bytes, startMs, endMs, state };
    });
    return { rank, started: (ops.at(-1)?.sequence ?? -1) + 1, ops };
  });
  return { group: group.name, generation: group.generation, ranks };
}

/** The ranks of a group that have started fewer collectives than others: those that the others wait for. */
export function laggards({ ranks }: GroupFlight): readonly number[] {
  const most = Math.max(...ranks.map(({ started }) => started));
  return ranks.filter(({ started }) => started < most).map(({ rank }) => rank);
}

function describeOp({ op, dtype, reduction, shape, sequence }: FlightOp): string {
  const parts = [op, reduction, dtype, shape.length > 0 ? formatShape(shape) : undefined, `#${sequence}`];
  return parts.filter((part) => part !== undefined).join(" ");
}

/** What a rank was doing in one group, in words. */
function describeFlight(group: string, { ops }: RankFlight, takenAtMs: number): string {
  const last = ops.at(-1);
  if (last === undefined) return `no collective of "${group}" yet`;
  const what = `${describeOp(last)} of "${group}"`;
  const ago = (time: number): string => `${Math.max(0, takenAtMs - time)} ms`;
  if (last.state === "waiting") return `waiting in ${what} for ${ago(last.startMs)}`;
  if (last.state === "moving") return `moving data in ${what}, begun ${ago(last.startMs)} before`;
  if (last.state === "failed") return `came out of ${what} with an error, begun ${ago(last.startMs)} before`;
  return `outside collectives, after ${what}, done ${ago(last.endMs ?? last.startMs)} before`;
}

/** Most ranks that an error message tells about. */
const MOST_DESCRIBED = 8;

/** What ranks were doing, one sentence each: where they are stuck, else where they were last. */
export function summarizeFlight(record: FlightRecord, ranks: readonly number[]): string {
  const told = ranks.slice(0, MOST_DESCRIBED).map((rank) => {
    const flights = record.groups.flatMap(({ group, ranks: members }) =>
      members.filter((member) => member.rank === rank).map((member) => ({ group, member })),
    );
    const lastTime = ({ member }: (typeof flights)[number]): number => {
      const last = member.ops.at(-1);
      if (last === undefined) return -1;
      return last.endMs ?? Number.POSITIVE_INFINITY;
    };
    const latest = flights.toSorted((a, b) => lastTime(b) - lastTime(a))[0];
    const doing = latest === undefined ? "in no group" : describeFlight(latest.group, latest.member, record.takenAtMs);
    return `rank ${rank}: ${doing}.`;
  });
  if (ranks.length > MOST_DESCRIBED) told.push(`And ${ranks.length - MOST_DESCRIBED} more.`);
  return told.join(" ");
}

/** Puts a record on a timeout, and what `ranks` and the others were doing into its message. */
export function attachFlightRecord(
  error: CollectiveTimeout | CallTimeout,
  record: FlightRecord,
  ranks: readonly number[],
): void {
  // Not enumerable: printing the error should not print thousands of operations.
  Object.defineProperty(error, "flightRecord", { value: record, enumerable: false });
  const others = record.groups
    .flatMap((group) => group.ranks.map(({ rank }) => rank))
    .filter((rank, index, all) => !ranks.includes(rank) && all.indexOf(rank) === index);
  error.message += ` What they were doing: ${summarizeFlight(record, [...ranks, ...others])}`;
}

/**
 * A flight record as a table: per group and rank its last `last` collectives (default 3), the latest last, and who is
 * behind. Times are milliseconds since the world opened.
 */
export function formatFlightRecord(record: FlightRecord, last = 3): string {
  if (typeof record !== "object" || record === null || !isList(readSafely(record, "groups"))) {
    throw new ArgumentError("formatFlightRecord", "record", "a FlightRecord", describe(record));
  }
  if (!Number.isInteger(last) || last < 1) {
    throw new ArgumentError("formatFlightRecord", "last", "a positive integer", describe(last));
  }
  const lines = [`flight record, ${record.takenAtMs} ms after the world opened`];
  for (const group of record.groups) {
    const behind = laggards(group);
    lines.push("", `group "${group.group}" (generation ${group.generation})`);
    const rows = [["rank", "seq", "op", "dtype", "shape", "bytes", "start", "end", "state"]];
    for (const { rank, ops } of group.ranks) {
      if (ops.length === 0) rows.push([String(rank), "-", "nothing yet", "", "", "", "", "", ""]);
      for (const op of ops.slice(-last)) {
        rows.push([
          String(rank),
          String(op.sequence),
          [op.op, op.reduction].filter((part) => part !== undefined).join(" "),
          op.dtype ?? "",
          op.shape.length > 0 ? formatShape(op.shape) : "",
          String(op.bytes),
          String(op.startMs),
          op.endMs === undefined ? "-" : String(op.endMs),
          op.state,
        ]);
      }
      const row = rows.at(-1);
      if (behind.includes(rank) && row !== undefined)
        row[8] = `${row[8]} <- behind: its peers have gone further`.trim();
    }
    const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
    for (const row of rows)
      lines.push(
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd(),
      );
  }
  return lines.join("\n");
}
