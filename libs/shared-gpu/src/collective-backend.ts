import {
  type AttentionPlan,
  type AttentionStep,
  type BackendName,
  type Completion,
  type DeviceSharing,
  type GpuTensor,
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

/**
 * After so many fences the ops before them are run, and not only with the next results in the heap: more would leave
 * the GPU idle while a step of many layers is called, fewer would cost the ranks a meeting each.
 */
export const FENCES_PER_RUN = 16;

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend extends OpMethods implements KernelBackend, DeviceSharing {
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

  get sharing(): DeviceSharing {
    return this;
  }

  abstract readonly ranks: readonly number[];
  abstract show(make: () => readonly GpuTensor[]): Promise<readonly (readonly GpuTensor[])[]>;
  abstract fence(): Completion;
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
