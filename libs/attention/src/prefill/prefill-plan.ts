import { type PagedCacheSize, SlotPlan } from "@lockstep/kernels";
import type { StepPlan } from "../kv/step-plan.ts";
import { pcpRows } from "./pcp-rows.ts";

/** What a prefill step stores and asks on this rank; the same on every layer. */
export interface PrefillPlan {
  /** The whole step: all new tokens, their slots on this rank, block tables. */
  readonly step: StepPlan;
  /** Which of the step's tokens each PCP rank brings, as indexes into the step's. */
  readonly rowsOf: readonly Int32Array[];
  /** Slots of these tokens on this rank, of each PCP rank's, checked once for all layers. */
  readonly slotPlans: readonly SlotPlan[];
  /** This rank's: its tokens are the rows of its queries, keys and values. */
  readonly rows: Int32Array;
  /** Place in the step of the sequence of each of this rank's tokens, and the token's global position. */
  readonly sequences: Int32Array;
  /** Global position of each of this rank's tokens within its sequence. */
  readonly positions: Int32Array;
}

/** The part of a prefill plan that this rank brings, of a PCP group in which it has place `rank`. */
export function planPrefill(
  step: StepPlan,
  tokens: readonly number[],
  rank: number,
  size: number,
  caches: PagedCacheSize,
): PrefillPlan {
  const rowsOf = pcpRows(tokens, size);
  const rows = rowsOf[rank] ?? new Int32Array();
  return {
    step,
    rowsOf,
    slotPlans: size === 1 ? [step.slotPlan] : rowsOf.map((own) => slotsOf(step, own, caches)),
    rows,
    sequences: rows.map((row) => step.sequences[row] ?? 0),
    positions: rows.map((row) => step.positions[row] ?? -1),
  };
}

function slotsOf({ slotMapping }: StepPlan, rows: Int32Array, caches: PagedCacheSize): SlotPlan {
  return new SlotPlan(
    rows.map((row) => slotMapping[row] ?? -1),
    caches,
  );
}
