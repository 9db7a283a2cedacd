import { type DType, HeapExhausted, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { BackendName, Completion, KernelBackend } from "./backend.ts";
import { KernelContext } from "../context.ts";
import { BackendClosed } from "../errors.ts";
import { checkDownload, checkUpload } from "./copy-arguments.ts";
import { expectFunction, expectHeapTensor, type Operand } from "../operand.ts";
import { attentionBoundsWasm } from "../ops/attention-bounds/wasm.ts";
import { correctAttnOutWasm } from "../ops/correct-attn-out/wasm.ts";
import { finishLatticeWasm } from "../ops/finish-lattice/wasm.ts";
import { gatherKvCacheWasm } from "../ops/gather-kv-cache/wasm.ts";
import { latticeSumsWasm } from "../ops/lattice-sums/wasm.ts";
import { mergeAttnStatesWasm } from "../ops/merge-attn-states/wasm.ts";
import type { OpArguments, OpName } from "../ops/op-table.ts";
import { packSeqWasm } from "../ops/pack-seq/wasm.ts";
import { AttentionPlan, type AttentionStep } from "../ops/partial-attention/attention-plan.ts";
import { attentionTileKeys } from "../ops/partial-attention/attention-tiles.ts";
import { prepareAttentionWasm } from "../ops/partial-attention/prepared-attention.ts";
import { partialAttentionWasm, wasmSumsWidth } from "../ops/partial-attention/wasm.ts";
import { unpackSeqWasm } from "../ops/unpack-seq/wasm.ts";
import { prepareWriteWasm } from "../ops/write-kv-cache/prepared-write.ts";
import { writeKvCacheWasm } from "../ops/write-kv-cache/wasm.ts";
import type { PagedCacheSize } from "../kv/paged-cache-size.ts";
import { OpMethods } from "./op-methods.ts";
import type { PreparedOps, WithRoom } from "../ops/prepared-ops.ts";
import { copyStrided } from "../wasm/strided-copy.ts";
import type { WasmKernels } from "../wasm/wasm-kernels.ts";
import { WasmMemories } from "../wasm/wasm-memories.ts";

/**
 * Opens the WebAssembly SIMD backend over `heap`: ops read and write its tensors in place, and take scratch memory from
 * it until closed. Open one per thread, over the thread's own range; operands may lie anywhere in the same memory.
 *
 * With an `ownHeap`, in another memory, that is where `empty` and plans take theirs, so that caches are as large as it
 * is. Ops over caches run there. Their other operands may lie in any memory: those of another one are copied, inputs
 * before the op and results after it.
 * Throws BackendUnavailable when the compiled kernels are missing.
 */
export async function openWasmBackend(options: {
  readonly heap: SharedHeap;
  readonly ownHeap?: SharedHeap;
}): Promise<KernelBackend> {
  return new WasmBackend(await WasmMemories.open(options.heap, options.ownHeap ?? options.heap));
}

type WasmOp<Args> = (memories: WasmMemories, context: KernelContext, args: Args) => void;

const WASM_OPS: { readonly [Name in OpName]: WasmOp<OpArguments[Name]> } = {
  correctAttnOut: correctAttnOutWasm,
  packSeq: packSeqWasm,
  unpackSeq: unpackSeqWasm,
  mergeAttnStates: mergeAttnStatesWasm,
  writeKvCache: writeKvCacheWasm,
  gatherKvCache: gatherKvCacheWasm,
  partialAttention: partialAttentionWasm,
  attentionBounds: attentionBoundsWasm,
  latticeSums: latticeSumsWasm,
  finishLattice: finishLatticeWasm,
};

class WasmBackend extends OpMethods implements KernelBackend {
  readonly name: BackendName = "wasm";
  readonly device = "WebAssembly SIMD (128-bit)";
  readonly context = new KernelContext();
  readonly isSynchronous = true;
  readonly memory = "heap";
  readonly batchInvariant = true;
  readonly roundsAsCollectives = true;
  readonly prepared: PreparedOps;
  readonly #memories: WasmMemories;
  #closed = false;

  constructor(memories: WasmMemories) {
    super();
    this.#memories = memories;
    const withRoom: WithRoom = (run) => this.#withRoom(run);
    this.prepared = {
      prepareAttention: (args) => this.#withRoom((all) => prepareAttentionWasm(all, this.context, args, withRoom)),
      prepareWrite: (args) => this.#withRoom((all) => prepareWriteWasm(all, this.context, args, withRoom)),
    };
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    const memories = this.#open;
    try {
      WASM_OPS[name](memories, this.context, args);
    } catch (error) {
      this.#makeRoomAfter(error);
      this.#withRoom(() => WASM_OPS[name](memories, this.context, args));
    }
    memories.settle();
    return undefined;
  }

  sumsWidth(valueDim: number): number {
    return wasmSumsWidth(valueDim);
  }

  sumsBorder(keyDim: number, valueDim: number): number {
    return attentionTileKeys(keyDim, valueDim);
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    return this.#withRoom(({ own }) => new AttentionPlan(step, size, own.heap));
  }

  empty(dtype: DType, shape: readonly number[]): Operand {
    return this.#withRoom(({ own }) => Tensor.zeros(own.heap, dtype, shape));
  }

  upload(source: Tensor, target: Operand): Completion {
    const memories = this.#open;
    checkUpload(source, target);
    copyTensor(memories.ofResult("upload", "target", target), source, expectHeapTensor("upload", "target", target));
    return undefined;
  }

  download(source: Operand, target: Tensor): Completion {
    const memories = this.#open;
    checkDownload(source, target);
    copyTensor(memories.ofResult("download", "target", target), expectHeapTensor("download", "source", source), target);
    return undefined;
  }

  batch(run: () => void): Completion {
    if (this.#closed) throw new BackendClosed(this.name);
    expectFunction("batch", "run", run);
    run();
    return undefined;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.context.clear();
    this.#memories.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Runs what takes all its memory before it writes. Where there is none left, copies of earlier ops' operands may lie
   * in the way: it runs again without them.
   */
  #withRoom<T>(run: (memories: WasmMemories) => T): T {
    const memories = this.#open;
    try {
      return run(memories);
    } catch (error) {
      this.#makeRoomAfter(error);
    }
    try {
      return run(memories);
    } catch (error) {
      memories.abandon();
      throw error;
    }
  }

  /** Gives copies of operands back after what failed for want of memory; throws the error when that is of no use. */
  #makeRoomAfter(error: unknown): void {
    const memories = this.#open;
    memories.abandon();
    if (!(error instanceof HeapExhausted) || !memories.dropCopies()) throw error;
  }

  get #open(): WasmMemories {
    if (this.#closed) throw new BackendClosed(this.name);
    return this.#memories;
  }
}

/** By a kernel within its memory, element by element between memories. */
function copyTensor(kernels: WasmKernels, source: Tensor, target: Tensor): void {
  const { id } = kernels.heap;
  if (source.heap.id === id && target.heap.id === id) copyStrided(kernels, source, target);
  else target.copyFrom(source);
}
