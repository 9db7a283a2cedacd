import type { Tensor } from "@lockstep/tensor";
import type { CompiledKernel } from "./compiled-kernel.ts";
import type { Region } from "./region.ts";

/** One dispatch of a kernel; `regions` in the order of its bindings. */
export interface Dispatch {
  readonly kind: "dispatch";
  readonly kernel: CompiledKernel;
  readonly regions: readonly Region[];
  readonly grid: readonly [x: number, y: number];
}

/** A copy of `bytes` from the start of one region to the start of another. */
export interface Copy {
  readonly kind: "copy";
  readonly from: Region;
  readonly to: Region;
  readonly bytes: number;
}

export type Command = Dispatch | Copy;

/** A region of the `result` or the `readback` pool whose elements go to a heap tensor. */
export interface Download {
  readonly region: Region;
  readonly tensor: Tensor;
}

/** Bytes of each pool that a submission uses. */
export interface PoolUse {
  upload: number;
  result: number;
  readback: number;
  scratch: number;
  together: number;
}
