// Every way of spreading the shipped model over some numbers of ranks.
import { checkParallelSizes, type KvHeadLayout } from "../src/model/tensor-parallel.ts";
import { model } from "./shipped-model.ts";

const LAYOUTS: readonly KvHeadLayout[] = ["replicated", "sharded"];

/** All legal combinations of these world sizes, a DCP among `dcps`, and both KV-head layouts where they differ. */
export function legalSizes(
  worlds: readonly number[],
  dcps: readonly number[] = worlds,
): { world: number; dcp: number; kvHeads: KvHeadLayout }[] {
  return worlds.flatMap((world) =>
    dcps.flatMap((dcp) =>
      LAYOUTS.filter((kvHeads) => isLegal(world, dcp, kvHeads)).map((kvHeads) => ({ world, dcp, kvHeads })),
    ),
  );
}

function isLegal(world: number, dcp: number, kvLayout: KvHeadLayout): boolean {
  if (world === 1 && kvLayout === "sharded") return false;
  try {
    checkParallelSizes({ world, dcp, kvLayout }, model.config.queryHeads, model.config.kvHeads);
    return true;
  } catch {
    return false;
  }
}
