// The steps that the model of N hosts is asked for.
import type { ModelledStep } from "./hosts-model.ts";
import { STEP_SHAPE } from "./step.ts";

export const CONTEXTS = [16_384, 131_072, 1_048_576] as const;
export const RANKS = [1, 2, 4, 8, 16, 32, 64] as const;
export const LAYERS = 32;

/** A step that was run here. */
export interface MeasuredStep {
  readonly network: string;
  readonly step: ModelledStep;
  readonly ranks: number;
  readonly seconds: number;
}

/** The step of one sequence over so long a context. */
export function stepOver(context: number, batch = 1): ModelledStep {
  return { ...STEP_SHAPE, batch, context };
}
