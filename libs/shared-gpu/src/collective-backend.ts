import type {
  BackendName,
  Completion,
  CorrectAttnOutArgs,
  GatherKvCacheArgs,
  KernelBackend,
  KernelContext,
  MergeAttnStatesArgs,
  OpArguments,
  OpName,
  Operand,
  PackSeqArgs,
  PartialAttentionArgs,
  UnpackSeqArgs,
  WriteKvCacheArgs,
} from "@lockstep/kernels";
import type { DType, Tensor } from "@lockstep/tensor";

/** A backend of a GPU that ranks share: every op goes one way, which its two sides make out. */
export abstract class CollectiveBackend implements KernelBackend {
  readonly name: BackendName = "webgpu";
  abstract readonly device: string;
  abstract readonly context: KernelContext;

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
    return this.op("writeKvCache", args);
  }

  gatherKvCache(args: GatherKvCacheArgs): Completion {
    return this.op("gatherKvCache", args);
  }

  partialAttention(args: PartialAttentionArgs): Completion {
    return this.op("partialAttention", args);
  }

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
