import type { DType, Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../context.ts";
import type { Operand } from "../operand.ts";
import type { CorrectAttnOutArgs } from "../ops/correct-attn-out/index.ts";
import type { GatherKvCacheArgs } from "../ops/gather-kv-cache/index.ts";
import type { MergeAttnStatesArgs } from "../ops/merge-attn-states/index.ts";
import type { PackSeqArgs } from "../ops/pack-seq/index.ts";
import type { AttentionPlan, AttentionStep } from "../ops/partial-attention/attention-plan.ts";
import type { PartialAttentionArgs } from "../ops/partial-attention/index.ts";
import type { UnpackSeqArgs } from "../ops/unpack-seq/index.ts";
import type { WriteKvCacheArgs } from "../ops/write-kv-cache/index.ts";
import type { PagedCacheSize } from "../kv/paged-cache-size.ts";

/** `webgpu`: WGSL on a GPU; `wasm`: WebAssembly SIMD on the shared heap; `reference`: float64 TypeScript. */
export type BackendName = "webgpu" | "wasm" | "reference";

/** Nothing when the op has already completed (wasm, reference), else a promise of its completion (webgpu). */
export type Completion = Promise<void> | undefined;

/**
 * Runs the ops. Every op checks its arguments first and throws ArgumentError before it writes anything; once it has
 * completed, heap operands hold the result. See each op's `index.ts` for its contract.
 */
export interface KernelBackend extends AsyncDisposable {
  readonly name: BackendName;
  /** What it runs on, for people: the adapter's name, or the instruction set. */
  readonly device: string;
  readonly context: KernelContext;

  correctAttnOut(args: CorrectAttnOutArgs): Completion;
  packSeq(args: PackSeqArgs): Completion;
  unpackSeq(args: UnpackSeqArgs): Completion;
  mergeAttnStates(args: MergeAttnStatesArgs): Completion;
  writeKvCache(args: WriteKvCacheArgs): Completion;
  gatherKvCache(args: GatherKvCacheArgs): Completion;
  partialAttention(args: PartialAttentionArgs): Completion;

  /**
   * Checks what the query tokens of a step see of caches of a size, once for all layers: `partialAttention({ plan, ...
   * })` on each. The plan keeps copies, in the heap. It is the caller's, who frees it once the step's last op has been
   * given to this backend.
   * @throws ArgumentError, HeapExhausted
   */
  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan;

  /** Zeroed memory where this backend computes: its GPU, or the heap it was opened over. Freed by `free()`. */
  empty(dtype: DType, shape: readonly number[]): Operand;
  /** Copies a heap tensor into an operand of the same dtype and shape. */
  upload(source: Tensor, target: Operand): Completion;
  /** Copies an operand into a heap tensor of the same dtype and shape. */
  download(source: Operand, target: Tensor): Completion;

  /**
   * Runs ops together: on a GPU in one submission, with one upload and one download. `run` calls ops of this backend
   * and awaits none of them: all have completed when the returned promise resolves. Heap operands must not change
   * before `run` returns. When `run` throws, none of its ops is run on a GPU, but for uploads of more than 1 MiB.
   */
  batch(run: () => void): Completion;

  /** Releases devices, pipelines and scratch memory. Idempotent; later calls of ops throw BackendClosed. */
  close(): Promise<void>;
}
