import type { Tensor } from "@lockstep/tensor";
import type { AttentionVariant } from "../options/attention-variant.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { PrefillPlan } from "./prefill-plan.ts";

/** Attention of a prefill's tokens, for this rank's own heads, over all that is stored of their sequences. */
export interface ContextAttention {
  /**
   * Called by every rank of the DCP group for every layer, whatever it brings.
   * @param query [rows, ownHeads, headDim]
   * @param out where it goes [rows, ownHeads, valueDim], any float dtype
   * @param lse where the natural LSE goes [rows, ownHeads], f32; undefined: nobody wants it
   */
  attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void>;
  /** To be called when a step ends. */
  end(): void;
  close(): void;
}

/** The variant of a layer. */
export function variantOf({ model }: ResolvedOptions, layer: number): AttentionVariant {
  const variant = model.variants[layer];
  if (variant === undefined) throw new RangeError(`there is no layer ${layer}`);
  return variant;
}

/** How a layer's scores are made of this rank's own queries, as the kernels take it. */
export function scoreArgs({ model, groups }: ResolvedOptions, { scale, softcap }: AttentionVariant) {
  const { size, offset } = model.headGroup;
  const headGroup = { size, offset: offset + groups.ownHeads.start };
  return { headGroup, scale, ...(softcap === undefined ? {} : { softcap }) };
}

/** The sinks of this rank's own heads, as the kernels take them; empty when there are none. */
export function sinkArgs({ groups }: ResolvedOptions, { sinks }: AttentionVariant): { readonly sinks?: Tensor } {
  const { start, end } = groups.ownHeads;
  return sinks === undefined ? {} : { sinks: sinks.slice(0, start, end) };
}
