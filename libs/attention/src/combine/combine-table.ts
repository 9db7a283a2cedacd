import { ALL_TO_ALL } from "./a2a.ts";
import { GATHER_REDUCE } from "./ag-rs.ts";
import type { Combine } from "./combine.ts";
import type { CombineWay } from "./combine-way.ts";
import { ONE_SHOT } from "./one-shot.ts";

/** The only list of combines with what they do. */
export const COMBINE_WAYS: Readonly<Record<Combine, CombineWay>> = {
  "ag-rs": GATHER_REDUCE,
  a2a: ALL_TO_ALL,
  "one-shot": ONE_SHOT,
};
