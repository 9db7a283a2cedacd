import { type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { BackendName, Completion, KernelBackend } from "./backend.ts";
import { KernelContext } from "../context.ts";
import { BackendClosed } from "../errors.ts";
import { checkDownload, checkUpload } from "./copy-arguments.ts";
import { expectFunction, expectHeapTensor, type Operand } from "../operand.ts";
import { correctAttnOutWasm } from "../ops/correct-attn-out/wasm.ts";
import { gatherKvCacheWasm } from "../ops/gather-kv-cache/wasm.ts";
import { mergeAttnStatesWasm } from "../ops/merge-attn-states/wasm.ts";
import type { OpArguments, OpName } from "../ops/op-table.ts";
import { packSeqWasm } from "../ops/pack-seq/wasm.ts";
import { AttentionPlan, type AttentionStep } from "../ops/partial-attention/attention-plan.ts";
import { partialAttentionWasm } from "../ops/partial-attention/wasm.ts";
import { unpackSeqWasm } from "../ops/unpack-seq/wasm.ts";
import { writeKvCacheWasm } from "../ops/write-kv-cache/wasm.ts";
import type { PagedCacheSize } from "../kv/paged-cache-size.ts";
import { OpMethods } from "./op-methods.ts";
import { copyStrided } from "../wasm/strided-copy.ts";
import { WasmKernels } from "../wasm/wasm-kernels.ts";

/**
 * Opens the WebAssembly SIMD backend over `heap`: ops read and write its tensors in place, and take scratch memory from
 * it until closed. Open one per thread, over the thread's own range; operands may lie anywhere in the same memory.
 * Throws BackendUnavailable when the compiled kernels are missing.
 */
export async function openWasmBackend(options: { readonly heap: SharedHeap }): Promise<KernelBackend> {
  return new WasmBackend(await WasmKernels.open(options.heap));
}

type WasmOp<Args> = (kernels: WasmKernels, context: KernelContext, args: Args) => void;

const WASM_OPS: { readonly [Name in OpName]: WasmOp<OpArguments[Name]> } = {
  correctAttnOut: correctAttnOutWasm,
  packSeq: packSeqWasm,
  unpackSeq: unpackSeqWasm,
  mergeAttnStates: mergeAttnStatesWasm,
  writeKvCache: writeKvCacheWasm,
  gatherKvCache: gatherKvCacheWasm,
  partialAttention: partialAttentionWasm,
};

class WasmBackend extends OpMethods implements KernelBackend {
  readonly name: BackendName = "wasm";
  readonly device = "WebAssembly SIMD (128-bit)";
  readonly context = new KernelContext();
  readonly isSynchronous = true;
  readonly memory = "heap";
  readonly roundsAsCollectives = true;
  readonly #kernels: WasmKernels;
  #closed = false;

  constructor(kernels: WasmKernels) {
    super();
    this.#kernels = kernels;
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    WASM_OPS[name](this.#open, this.context, args);
    return undefined;
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    return new AttentionPlan(step, size, this.#open.heap);
  }

  empty(dtype: DType, shape: readonly number[]): Operand {
    return Tensor.zeros(this.#open.heap, dtype, shape);
  }

  upload(source: Tensor, target: Operand): Completion {
    const kernels = this.#open;
    checkUpload(source, target);
    const { heap } = kernels;
    const from = expectHeapTensor("upload", "source", source, heap);
    copyStrided(kernels, from, expectHeapTensor("upload", "target", target, heap));
    return undefined;
  }

  download(source: Operand, target: Tensor): Completion {
    const kernels = this.#open;
    checkDownload(source, target);
    const { heap } = kernels;
    const into = expectHeapTensor("download", "target", target, heap);
    copyStrided(kernels, expectHeapTensor("download", "source", source, heap), into);
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
    this.#kernels.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #open(): WasmKernels {
    if (this.#closed) throw new BackendClosed(this.name);
    return this.#kernels;
  }
}
