import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./layer-overhead-program.ts";
import { printTable } from "./print-table.ts";

const SEQUENCES = 32;
const LAYERS = 32;
const [WARM_UP_STEPS, STEPS] = [40, 60];

/**
 * What a layer of `DcpAttention` costs beside its kernels: a step of one rank whose attention kernel does nothing, so
 * that planning, checks, arguments and the write of the new tokens are left.
 */
export async function benchLayerOverhead(): Promise<void> {
  console.log(`\nA layer without its attention kernel: ${SEQUENCES} sequences, one rank, wasm`);
  const rows: string[][] = [];
  for (const tokens of [1024, 8192]) {
    await using world = await openWorld<typeof program>({
      size: 1,
      program: new URL("./layer-overhead-program.ts", import.meta.url),
      options: { sequences: SEQUENCES, tokens, layers: LAYERS },
      heapBytesPerRank: 128 << 20,
      startDeadlineMs: 120_000,
      deadlineMs: 120_000,
    });
    await world.call("check", []);
    await world.call("overhead", [WARM_UP_STEPS]);
    const [result] = await world.call("overhead", [STEPS]);
    if (result === undefined) throw new Error("the rank gave no times");
    rows.push([`${tokens} local keys`, `${result.layer.toFixed(1)} us`, `${result.step.toFixed(0)} us`]);
  }
  printTable(["each sequence", "a layer", "begin and end of the step"], rows);
}
