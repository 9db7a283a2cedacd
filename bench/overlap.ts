import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./overlap-program.ts";
import type { OverlapRow, Way } from "./overlap-program.ts";
import { printTable } from "./print-table.ts";
import { formatSeconds } from "./timing.ts";

const RANKS = [2, 4];
const BATCHES = [16, 32, 64];
const CONTEXTS = [64, 512, 2048];
const COMBINES = ["a2a", "ag-rs"] as const;
const WAYS: readonly Way[] = ["off", "on", "auto"];
/** Pairs of windows, one of each way in turn; the median of their ratios counts. */
const WINDOWS = 9;
/** Tokens that a window attends to, and its fewest and most steps. */
const [WINDOW_TOKENS, LEAST_STEPS, MOST_STEPS] = [300_000, 5, 40];
/** `auto` has chosen after so many steps of one layer. */
const TRIAL_STEPS = 50;

/**
 * Decode steps of one layer on wasm ranks that share a memory: whole, by overlapped halves, and as `auto` chose, in turn,
 * outputs compared bit by bit.
 */
export async function benchOverlap(): Promise<void> {
  console.log(
    "\nDecode steps of one layer, whole and by overlapped halves, 16 query heads over 4, head dim 64, f16 KV:",
  );
  for (const ranks of RANKS) {
    await using world = await openWorld<typeof program>({
      size: ranks,
      program: new URL("./overlap-program.ts", import.meta.url),
      heapBytesPerRank: Math.floor((1200 << 20) / ranks),
      startDeadlineMs: 120_000,
      deadlineMs: 120_000,
    });
    const table: string[][] = [];
    for (const combine of COMBINES) {
      for (const context of CONTEXTS) {
        for (const batch of BATCHES) table.push(await measure({ batch, context, combine }));
      }
    }
    await world.call("close", []);
    console.log(`\n  ${ranks} ranks, medians of the slowest rank's ${WINDOWS} windows in turn, the same bits:`);
    const header = ["step", "whole", "its combine", "halves", "halves / whole", "auto", "auto / whole"];
    printTable(header, table);

    async function measure(row: OverlapRow): Promise<string[]> {
      const { batch, context, combine } = row;
      const what = `${combine}, ${batch} of ${context} tokens`;
      const steps = Math.max(LEAST_STEPS, Math.min(MOST_STEPS, Math.floor(WINDOW_TOKENS / (batch * context))));
      await world.call("prepare", [WAYS, row]);
      await world.call("window", ["auto", TRIAL_STEPS]);
      const times = WAYS.map((): { readonly step: number[]; readonly combine: number[] } => ({
        step: [],
        combine: [],
      }));
      for (let turn = -1; turn < WINDOWS; turn++) {
        let whole: readonly Uint8Array[] | undefined;
        for (const [index, way] of WAYS.entries()) {
          const found = await world.call("window", [way, steps]);
          const bytes = found.map((rank) => rank.bytes);
          whole ??= bytes;
          for (const [rank, own] of bytes.entries()) {
            if (Buffer.compare(own, whole[rank] ?? new Uint8Array()) === 0) continue;
            throw new Error(`${what}: overlap ${way} has other bits than the whole step on rank ${rank}`);
          }
          if (turn < 0) continue;
          times[index]?.step.push(Math.max(...found.map(({ step }) => step)));
          times[index]?.combine.push(Math.max(...found.map((rank) => rank.combine)));
        }
      }
      const [whole, halves, auto] = times;
      if (whole === undefined || halves === undefined || auto === undefined)
        throw new RangeError("three ways are timed");
      const ratio = (than: typeof whole): string =>
        median(than.step.map((step, turn) => step / (whole.step[turn] ?? Number.NaN))).toFixed(3);
      const choices = (await world.call("choices", []))[0] ?? [];
      const us = (microseconds: readonly number[]): string => formatSeconds(median(microseconds) / 1e6);
      return [
        what,
        us(whole.step),
        us(whole.combine),
        us(halves.step),
        ratio(halves),
        choices.map(({ overlap }) => overlap ?? "timing").join(" "),
        ratio(auto),
      ];
    }
  }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
