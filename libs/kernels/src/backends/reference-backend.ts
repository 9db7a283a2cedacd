import { type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { BackendName, Completion, KernelBackend } from "./backend.ts";
import { KernelContext } from "../context.ts";
import { BackendClosed } from "../errors.ts";
import { checkDownload, checkUpload } from "./copy-arguments.ts";
import { expectFunction, expectHeapTensor, type Operand } from "../operand.ts";
import { attentionBoundsReference } from "../ops/attention-bounds/reference.ts";
import { correctAttnOutReference } from "../ops/correct-attn-out/reference.ts";
import { finishLatticeReference } from "../ops/finish-lattice/reference.ts";
import { gatherKvCacheReference } from "../ops/gather-kv-cache/reference.ts";
import { latticeSumsReference } from "../ops/lattice-sums/reference.ts";
import { mergeAttnStatesReference } from "../ops/merge-attn-states/reference.ts";
import type { OfEveryOp, OpArguments, OpName } from "../ops/op-table.ts";
import { packSeqReference } from "../ops/pack-seq/reference.ts";
import { AttentionPlan, type AttentionStep } from "../ops/partial-attention/attention-plan.ts";
import { attentionTileKeys } from "../ops/partial-attention/attention-tiles.ts";
import { partialAttentionReference, referenceSumsWidth } from "../ops/partial-attention/reference.ts";
import { unpackSeqReference } from "../ops/unpack-seq/reference.ts";
import { writeKvCacheReference } from "../ops/write-kv-cache/reference.ts";
import type { PagedCacheSize } from "../kv/paged-cache-size.ts";
import { OpMethods } from "./op-methods.ts";
import { copyRaw } from "../reference/raw-elements.ts";

/** Every op in plain float64 TypeScript: slow, and right at a glance. What the other backends are checked against. */
export function openReferenceBackend(options: {
  readonly heap: SharedHeap;
  readonly ownHeap?: SharedHeap;
}): KernelBackend {
  return new ReferenceBackend(options.ownHeap ?? options.heap);
}

const REFERENCE_OPS: OfEveryOp<void> = {
  correctAttnOut: correctAttnOutReference,
  packSeq: packSeqReference,
  unpackSeq: unpackSeqReference,
  mergeAttnStates: mergeAttnStatesReference,
  writeKvCache: writeKvCacheReference,
  gatherKvCache: gatherKvCacheReference,
  partialAttention: partialAttentionReference,
  attentionBounds: attentionBoundsReference,
  latticeSums: latticeSumsReference,
  finishLattice: finishLatticeReference,
};

class ReferenceBackend extends OpMethods implements KernelBackend {
  readonly name: BackendName = "reference";
  readonly device = "float64 TypeScript";
  readonly context = new KernelContext();
  readonly isSynchronous = true;
  readonly memory = "heap";
  readonly batchInvariant = true;
  readonly roundsAsCollectives = false;
  readonly #heap: SharedHeap;
  #closed = false;

  constructor(heap: SharedHeap) {
    super();
    this.#heap = heap;
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    return this.#run(() => REFERENCE_OPS[name](args));
  }

  sumsWidth(valueDim: number): number {
    return referenceSumsWidth(valueDim);
  }

  sumsBorder(keyDim: number, valueDim: number): number {
    return attentionTileKeys(keyDim, valueDim);
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    if (this.#closed) throw new BackendClosed(this.name);
    return new AttentionPlan(step, size, this.#heap);
  }

  empty(dtype: DType, shape: readonly number[]): Operand {
    if (this.#closed) throw new BackendClosed(this.name);
    return Tensor.zeros(this.#heap, dtype, shape);
  }

  upload(source: Tensor, target: Operand): Completion {
    return this.#run(() => {
      checkUpload(source, target);
      copyRaw(source, expectHeapTensor("upload", "target", target));
    });
  }

  download(source: Operand, target: Tensor): Completion {
    return this.#run(() => {
      checkDownload(source, target);
      copyRaw(expectHeapTensor("download", "source", source), target);
    });
  }

  batch(run: () => void): Completion {
    return this.#run(() => {
      expectFunction("batch", "run", run);
      run();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.context.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #run(op: () => void): undefined {
    if (this.#closed) throw new BackendClosed(this.name);
    op();
    return undefined;
  }
}
