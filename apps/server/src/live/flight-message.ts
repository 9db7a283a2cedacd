import type { FlightRecord } from "@lockstep/dist-groups";
import type { FlightMessage, FlightRank } from "./live-messages.ts";

/** Most groups, ranks of a group, and collectives of a rank that a message tells about: the last ones. */
export const MOST_GROUPS = 8;
export const MOST_RANKS = 64;
export const MOST_OPS = 4;

/** A flight record as a page shows it. `stuckMs`: milliseconds without a step. */
export function flightMessage(record: FlightRecord, stuckMs: number): FlightMessage {
  const groups = record.groups.slice(-MOST_GROUPS).map(({ group, ranks }) => {
    const most = Math.max(...ranks.map(({ started }) => started));
    return {
      group,
      ranks: ranks.slice(0, MOST_RANKS).map(({ rank, started, ops }): FlightRank => {
        const last = ops.slice(-MOST_OPS).map(({ sequence, op, dtype, reduction, shape, bytes, state, ...times }) => ({
          sequence,
          what: [op, reduction, dtype, shape.length > 0 ? `[${shape.join(", ")}]` : undefined]
            .filter((part) => part !== undefined)
            .join(" "),
          bytes,
          state,
          sinceStartMs: Math.max(0, record.takenAtMs - times.startMs),
          ...(times.endMs === undefined ? {} : { sinceEndMs: Math.max(0, record.takenAtMs - times.endMs) }),
        }));
        return { rank, started, behind: started < most, ops: last };
      }),
    };
  });
  return { stuckMs, groups };
}
