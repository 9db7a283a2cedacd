import type { KernelBackend } from "@lockstep/kernels";
import type { Allocator, Tensor } from "@lockstep/tensor";
import type { CaseParameters } from "./case-parameters.ts";
import type { CaseResults } from "./judge.ts";

/** What an op works with. */
export interface OpContext {
  readonly backend: KernelBackend;
  readonly allocator: Allocator;
  readonly parameters: CaseParameters;
  /** An input that the op must have. @throws CorpusError */
  readonly input: (name: string) => Tensor;
  /** An input that it may have. */
  readonly optional: (name: string) => Tensor | undefined;
}

/** An op that needs no world of ranks, on one backend. */
export type KernelOp = (context: OpContext) => CaseResults | Promise<CaseResults>;
