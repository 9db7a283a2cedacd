import { Tensor } from "@lockstep/tensor";
import type { ResolvedOptions } from "./resolved-options.ts";

/** What a backend can do, the most last. */
const NOTHING = 0;
const WHEN_ASKED = 1;
const BY_MEASUREMENT = 2;

/**
 * Whether steps are cut in halves, as far as the backends of all ranks can: ranks must cut alike. Nowhere, where a rank
 * shares its device or sums are exact; by measurement only where that shows in no bit. Called by every rank of the
 * groups together, which have agreed on the options.
 * @throws HeapExhausted; a group's errors when ranks do not come
 */
export function agreedOverlap({ backend, groups, heap, exchange }: ResolvedOptions): "auto" | "on" | "off" {
  const { overlap, deadlineMs } = exchange;
  if (overlap === "off" || exchange.isWorldInvariant) return "off";
  const own = backend.waitsForRanks === true ? NOTHING : backend.batchInvariant ? BY_MEASUREMENT : WHEN_ASKED;
  const least = Tensor.from(heap, "f32", [1], [own]);
  try {
    // All groups, since ranks that get new ones must agree on the options again.
    for (const group of groups.all) group.allReduce(least, least, { op: "min", deadlineMs });
    return least.at(0) >= (overlap === "on" ? WHEN_ASKED : BY_MEASUREMENT) ? overlap : "off";
  } finally {
    least.free();
  }
}
