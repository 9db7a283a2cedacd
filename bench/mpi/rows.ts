import type { CollectiveName } from "../collectives-program.ts";
import type { Window } from "./windows.ts";

/** A row of the table, and the most that Lockstep's time may be as a share of C's. */
export interface Row {
  readonly label: string;
  readonly window: Window & { readonly name: CollectiveName };
  /** Beside MPI's own collective, and beside C that sends headers too. */
  readonly plainTarget: number | undefined;
  readonly headerTarget: number | undefined;
}

const KIB = 1 << 10;
const MIB = 1 << 20;
const SIZES = [8, 256, 4 * KIB, 64 * KIB, MIB, 8 * MIB];
const COLLECTIVES = ["all-gather", "reduce-scatter", "all-reduce", "all-to-all", "broadcast"] as const;
/** Windows of some 50 ms: neither a handful of calls, nor so long that the sides see different machines. */
const MOST_CALLS = 10_000;
const WINDOW_BYTES = 96 * MIB;

/** A header goes before the data, which weighs the more the smaller the data are. */
function plainTarget(bytes: number): number {
  if (bytes < 4 * KIB) return 2.5;
  return bytes < MIB ? 1.6 : 1.15;
}

export function formatBytes(bytes: number): string {
  if (bytes >= MIB) return `${bytes / MIB} MiB`;
  return bytes >= KIB ? `${bytes / KIB} KiB` : `${bytes} B`;
}

/** Every collective at every size, which is what one rank brings. Elements of 4 bytes are cut into a part a rank. */
export function rowsFor(processes: number): Row[] {
  const rows: Row[] = [
    {
      label: "barrier",
      window: { name: "barrier", bytes: 0, calls: MOST_CALLS },
      plainTarget: plainTarget(0),
      headerTarget: undefined,
    },
  ];
  for (const name of COLLECTIVES) {
    for (const size of SIZES) {
      const bytes = Math.max(1, Math.floor(size / 4 / processes)) * 4 * processes;
      const calls = Math.max(3, Math.min(MOST_CALLS, Math.floor(WINDOW_BYTES / bytes)));
      rows.push({
        label: `${name} ${formatBytes(size)}`,
        window: { name, bytes, calls },
        plainTarget: plainTarget(size),
        headerTarget: size < 4 * KIB ? undefined : 1.15,
      });
    }
  }
  return rows;
}
