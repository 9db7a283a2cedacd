import {
  type AttentionPlan,
  type AttentionStep,
  type BackendName,
  type Completion,
  type KernelBackend,
  type KernelContext,
  type Operand,
  OpMethods,
  type PagedCacheSize,
  SlotPlan,
  type WriteKvCacheArgs,
} from "@lockstep/kernels";
import type { DType, Tensor } from "@lockstep/tensor";

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend extends OpMethods implements KernelBackend {
  readonly name: BackendName = "webgpu";
  readonly isSynchronous = false;
  readonly memory = "device";
  readonly roundsAsCollectives = false;
  abstract readonly device: string;
  abstract readonly context: KernelContext;

  override writeKvCache(args: WriteKvCacheArgs): Completion {
    const { slotMapping } = args;
    return super.writeKvCache(slotMapping instanceof SlotPlan ? { ...args, slotMapping: slotMapping.slots } : args);
  }

  /** Undefined: each call begins its sums and ends them. */
  sumsWidth(): undefined {
    return undefined;
  }

  abstract planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan;
  abstract empty(dtype: DType, shape: readonly number[]): Operand;
  abstract upload(source: Tensor, target: Operand): Completion;
  abstract download(source: Operand, target: Tensor): Completion;
  abstract batch(run: () => void): Completion;
  abstract close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
