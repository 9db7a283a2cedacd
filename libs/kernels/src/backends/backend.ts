import type { DType, Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../context.ts";
import type { PagedCacheSize } from "../kv/paged-cache-size.ts";
import type { Operand } from "../operand.ts";
import type { OfEveryOp } from "../ops/op-table.ts";
import type { AttentionPlan, AttentionStep } from "../ops/partial-attention/attention-plan.ts";
import type { PreparedOps } from "../ops/prepared-ops.ts";
import type { DeviceSharing } from "./device-sharing.ts";
import type { OpsTogether } from "./ops-together.ts";

/** `webgpu`: WGSL on a GPU; `wasm`: WebAssembly SIMD on the shared heap; `reference`: float64 TypeScript. */
export type BackendName = "webgpu" | "wasm" | "reference";

/** Nothing when the op has already completed (wasm, reference), else a promise of its completion (webgpu). */
export type Completion = Promise<void> | undefined;

/**
 * Runs the ops. Every op checks its arguments first and throws ArgumentError before it writes anything; once it has
 * completed, heap operands hold the result. See each op's `index.ts` for its contract.
 */
export interface KernelBackend extends OfEveryOp<Completion>, AsyncDisposable {
  /** Which backend it is. */
  readonly name: BackendName;
  /** What it runs on, for people: the adapter's name, or the instruction set. */
  readonly device: string;
  /** What it has compiled. */
  readonly context: KernelContext;
  /** True when an op has completed when its method returns, so that what it read may change. */
  readonly isSynchronous: boolean;
  /** Where it computes, and where {@link KernelBackend.empty} takes memory: the heap, or a device of its own. */
  readonly memory: "heap" | "device";
  /** True when factors and sums are rounded as the collectives round theirs: f32, in rank order. */
  readonly roundsAsCollectives: boolean;
  /**
   * True when a row's attention has bits that depend on its own query and keys alone: not on the rows beside it, the
   * calls that its sums go through, or where its keys lie.
   */
  readonly batchInvariant: boolean;
  /** True when an op may wait for other ranks' ops, as where they share a device. Default: it waits for nobody. */
  readonly waitsForRanks?: boolean;
  /** Ops with operands that stay the same from step to step; undefined where that saves nothing. */
  readonly prepared?: PreparedOps | undefined;
  /** Of a backend whose device several ranks share; undefined for others. */
  readonly sharing?: DeviceSharing | undefined;
  /** Several ops in one dispatch; undefined where that saves nothing. */
  readonly together?: OpsTogether | undefined;

  /**
   * f32 elements that this backend keeps of a row's sums from one partialAttention to the next, for values of a size;
   * undefined where sums begin and end in one call.
   * @param valueDim columns of a value
   */
  sumsWidth(valueDim: number): number | undefined;

  /**
   * Local indexes at whose multiples a context may be cut into calls that its sums go through.
   * @param keyDim columns of a key
   * @param valueDim columns of a value
   */
  sumsBorder(keyDim: number, valueDim: number): number;

  /**
   * Checks what the query tokens of a step see of caches of a size, once for all layers: `partialAttention({ plan, ...
   * })` on each. The plan keeps copies, in the heap. It is the caller's, who frees it once the step's last op has been
   * given to this backend.
   * @throws ArgumentError, HeapExhausted
   */
  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan;

  /** Zeroed memory where this backend computes: its GPU, or the heap it was opened over. Freed by `free()`. */
  empty(dtype: DType, shape: readonly number[]): Operand;
  /**
   * Operands [B, h, ...] side by side along dimension 1 as one operand [B, H, ...], for ops to read, whole or some
   * indexes of dimension 0. Nothing is copied before an op reads it; then each part of the heap is copied once, to where
   * it goes up from, and each part on the GPU there. A part may be freed or changed as any operand of that op may. Left
   * out where ops read the heap as it is, and where a device is shared.
   * @throws ArgumentError for parts that do not fit together; on a GPU they have gaps, if any, in dimension 0 alone
   */
  join?(parts: readonly Operand[]): Operand;
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
