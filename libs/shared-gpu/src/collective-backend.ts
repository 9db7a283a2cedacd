import {
  type AttentionPlan,
  type AttentionStep,
  type BackendName,
  type Completion,
  gpuSumsBorder,
  gpuSumsWidth,
  type KernelBackend,
  type KernelContext,
  type Operand,
  OpMethods,
  type PagedCacheSize,
  type PartialAttentionArgs,
  SlotPlan,
  type WriteKvCacheArgs,
} from "@lockstep/kernels";
import { ArgumentError, type DType, type Tensor } from "@lockstep/tensor";

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend extends OpMethods implements KernelBackend {
  readonly name: BackendName = "webgpu";
  readonly isSynchronous = false;
  readonly memory = "device";
  readonly waitsForRanks = true;
  readonly roundsAsCollectives = false;
  abstract readonly device: string;
  abstract readonly batchInvariant: boolean;
  abstract readonly context: KernelContext;

  /** As of a backend alone; sums that go on lie on the GPU, where every rank's calls find them. */
  override partialAttention(args: PartialAttentionArgs): Completion {
    if (args.sums?.state.place === "heap") {
      throw new ArgumentError("partialAttention", "sums.state", "on the GPU, made by `empty`", "a tensor in a heap");
    }
    return super.partialAttention(args);
  }

  override writeKvCache(args: WriteKvCacheArgs): Completion {
    const { slotMapping } = args;
    return super.writeKvCache(slotMapping instanceof SlotPlan ? { ...args, slotMapping: slotMapping.slots } : args);
  }

  sumsWidth(valueDim: number): number | undefined {
    return gpuSumsWidth(this.batchInvariant, valueDim);
  }

  sumsBorder(keyDim: number, valueDim: number): number {
    return gpuSumsBorder(this.batchInvariant, keyDim, valueDim);
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
