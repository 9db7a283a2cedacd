// What ranks of the worlds of one job run.
import { readdirSync } from "node:fs";
import process from "node:process";
import { Tensor } from "@lockstep/tensor";
import type { RankContext } from "../../src/index.ts";

/** What a rank's process holds. */
export interface Held {
  readonly process: number;
  readonly pid: number;
  /** Open files and sockets. */
  readonly descriptors: number;
}

export function setup(context: RankContext) {
  const { heap, rank, size, hostProcess } = context;
  const input = Tensor.empty(heap, "i32", [1]);
  const output = Tensor.empty(heap, "i32", [size]);
  return {
    /** Every rank's number plus `base`, gathered. */
    gather(base: number): number[] {
      input.set([base + rank]);
      context.world.allGather(input, output);
      return Array.from(output.toNumbers());
    },
    held(): Held {
      return { process: hostProcess.index, pid: process.pid, descriptors: readdirSync("/proc/self/fd").length };
    },
  };
}
