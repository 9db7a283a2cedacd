import type { Recorder } from "../../webgpu/recorder.ts";
import { RepeatedArguments } from "../repeated-arguments.ts";
import { type AttentionOperandRegions, readAttentionOperands } from "./attention-regions.ts";
import { type PartialAttentionArgs, type PartialAttentionPlan, replanPartialAttention } from "./index.ts";

/** Attention whose arguments were checked and bound. */
export interface BoundAttention {
  readonly plan: PartialAttentionPlan;
  readonly operands: AttentionOperandRegions;
}

/**
 * Attention of layers whose operands lie on the GPU and stay the same from step to step: they are checked and bound
 * once, and of each step only its plan is looked at.
 */
export class RepeatedAttention {
  readonly #known = new RepeatedArguments<BoundAttention>("plan");

  /** What was found before, with the plan of these arguments. @throws ArgumentError, UseAfterFree for another plan */
  find(args: PartialAttentionArgs): BoundAttention | undefined {
    if (args?.plan === undefined) return undefined;
    const known = this.#known.find(args.keyCache, [args]);
    return known && { plan: replanPartialAttention(args, known.plan), operands: known.operands };
  }

  /** Notes what a check of arguments returned. */
  note(recorder: Recorder, args: PartialAttentionArgs, plan: PartialAttentionPlan): void {
    if (args.plan === undefined) return;
    this.#known.note(args.keyCache, [args], () => ({ plan, operands: readAttentionOperands(recorder, args, plan) }));
  }
}
