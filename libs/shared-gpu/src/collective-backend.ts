import {
  AttentionPlan,
  type AttentionStep,
  type BackendName,
  type Completion,
  type KernelBackend,
  type KernelContext,
  type Operand,
  OpMethods,
  type PagedCacheSize,
  type PartialAttentionArgs,
  SlotPlan,
  unplanned,
  type WriteKvCacheArgs,
} from "@lockstep/kernels";
import type { DType, SharedHeap, Tensor } from "@lockstep/tensor";

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend extends OpMethods implements KernelBackend {
  readonly name: BackendName = "webgpu";
  readonly isSynchronous = false;
  readonly memory = "device";
  readonly roundsAsCollectives = false;
  abstract readonly device: string;
  abstract readonly context: KernelContext;
  protected abstract readonly heap: SharedHeap;

  // What was planned on a rank is checked again where the device is: a plan is the memory of one rank.

  override writeKvCache(args: WriteKvCacheArgs): Completion {
    const { slotMapping } = args;
    return super.writeKvCache(slotMapping instanceof SlotPlan ? { ...args, slotMapping: slotMapping.slots } : args);
  }

  override partialAttention(args: PartialAttentionArgs): Completion {
    return super.partialAttention(unplanned(args));
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    this.expectOpen();
    return new AttentionPlan(step, size, this.heap);
  }

  /** @throws BackendClosed */
  protected abstract expectOpen(): void;
  abstract empty(dtype: DType, shape: readonly number[]): Operand;
  abstract upload(source: Tensor, target: Operand): Completion;
  abstract download(source: Operand, target: Tensor): Completion;
  abstract batch(run: () => void): Completion;
  abstract close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
