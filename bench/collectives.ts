import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./collectives-program.ts";
import type { CollectiveName } from "./collectives-program.ts";
import { printTable } from "./print-table.ts";
import { formatSeconds } from "./timing.ts";

const NAMES: readonly CollectiveName[] = ["all-gather", "reduce-scatter", "all-reduce", "all-to-all", "broadcast"];
const SIZES = [4 << 10, 64 << 10, 1 << 20, 16 << 20] as const;

/** Share of the algorithm's bytes that crosses between ranks, as nccl-tests defines the bus bandwidth. */
function busFactor(name: CollectiveName, size: number): number {
  if (name === "all-reduce") return (2 * (size - 1)) / size;
  if (name === "broadcast") return 1;
  return (size - 1) / size;
}

/** Times every collective over `ranks` ranks, beside a memcpy of the bytes that each rank must write. */
export async function benchCollectives(ranks: number): Promise<void> {
  await using world = await openWorld<typeof program>({
    size: ranks,
    program: new URL("./collectives-program.ts", import.meta.url),
  });
  const barrier = await world.call("time", [{ name: "barrier", bytes: 0, rounds: 10_000 }]);
  const slowest = (timings: { readonly seconds: number }[]): number =>
    Math.max(...timings.map(({ seconds }) => seconds));
  console.log(`\nCollectives over ${ranks} ranks, data checked. Barrier: ${formatSeconds(slowest(barrier))}`);
  const rows: string[][] = [];
  for (const name of NAMES) {
    for (const bytes of SIZES) {
      const rounds = Math.max(20, Math.min(10_000, Math.floor((64 << 20) / bytes)));
      const timings = await world.call("time", [{ name, bytes, rounds }]);
      const seconds = slowest(timings);
      const memcpy = Math.max(...timings.map(({ memcpySeconds }) => memcpySeconds));
      const bandwidth = bytes / seconds;
      rows.push([
        `${name} ${bytes >= 1 << 20 ? `${bytes >> 20} MiB` : `${bytes >> 10} KiB`}`,
        formatSeconds(seconds),
        (bandwidth / 1e9).toFixed(2),
        ((bandwidth * busFactor(name, ranks)) / 1e9).toFixed(2),
        formatSeconds(memcpy),
        (memcpy / seconds).toFixed(2),
      ]);
    }
  }
  printTable(["collective", "time", "algbw GB/s", "busbw GB/s", "memcpy", "memcpy / time"], rows);
}
