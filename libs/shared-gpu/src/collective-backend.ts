import {
  AttentionPlan,
  type AttentionStep,
  type BackendName,
  type Completion,
  type CorrectAttnOutArgs,
  type GatherKvCacheArgs,
  type KernelBackend,
  type KernelContext,
  type MergeAttnStatesArgs,
  type OpArguments,
  type OpName,
  type Operand,
  type PackSeqArgs,
  type PagedCacheSize,
  type PartialAttentionArgs,
  SlotPlan,
  type UnpackSeqArgs,
  unplanned,
  type WriteKvCacheArgs,
} from "@lockstep/kernels";
import type { DType, SharedHeap, Tensor } from "@lockstep/tensor";

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend implements KernelBackend {
  readonly name: BackendName = "webgpu";
  abstract readonly device: string;
  abstract readonly context: KernelContext;
  protected abstract readonly heap: SharedHeap;

  correctAttnOut(args: CorrectAttnOutArgs): Completion {
    return this.op("correctAttnOut", args);
  }

  packSeq(args: PackSeqArgs): Completion {
    return this.op("packSeq", args);
  }

  unpackSeq(args: UnpackSeqArgs): Completion {
    return this.op("unpackSeq", args);
  }

  mergeAttnStates(args: MergeAttnStatesArgs): Completion {
    return this.op("mergeAttnStates", args);
  }

  writeKvCache(args: WriteKvCacheArgs): Completion {
    // As with plans of attention, below.
    const { slotMapping } = args;
    return this.op(
      "writeKvCache",
      slotMapping instanceof SlotPlan ? { ...args, slotMapping: slotMapping.slots } : args,
    );
  }

  gatherKvCache(args: GatherKvCacheArgs): Completion {
    return this.op("gatherKvCache", args);
  }

  partialAttention(args: PartialAttentionArgs): Completion {
    // What is planned here is checked again where the device is: a plan is the memory of one rank.
    return this.op("partialAttention", unplanned(args));
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    this.expectOpen();
    return new AttentionPlan(step, size, this.heap);
  }

  /** @throws BackendClosed */
  protected abstract expectOpen(): void;
  protected abstract op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion;
  abstract empty(dtype: DType, shape: readonly number[]): Operand;
  abstract upload(source: Tensor, target: Operand): Completion;
  abstract download(source: Operand, target: Tensor): Completion;
  abstract batch(run: () => void): Completion;
  abstract close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
