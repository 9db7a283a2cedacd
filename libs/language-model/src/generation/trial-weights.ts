// Weights of a model's shapes that stand for its own where only time matters.
import { contiguousStrides, DTYPE_BYTES, type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { HEAP_LINE_BYTES } from "../layers/heap-line.ts";
import { groupsOf, type Weight, type WeightKind } from "../layers/weight.ts";
import { findArchitecture } from "../model/architectures.ts";
import type { ModelConfig } from "../model/config.ts";
import { type StoredDTypes, storedDTypeOf } from "../model/stored-dtypes.ts";
import { lengthOf, type RankShare } from "../model/tensor-parallel.ts";
import { mapLayout } from "../model/weight-layout.ts";
import { type MatrixPart, weightParts } from "../model/weight-parts.ts";
import type { ModelWeights } from "../model/weights.ts";

/** Sums of thousands of products by it neither overflow nor vanish, in any dtype. */
const WEIGHT = 1 / 64;

/** Matrices one after another over memory that others use too: of ranks' shares only the largest needs room. */
class Pool {
  readonly #memory: Tensor;
  #used = 0;

  constructor(memory: Tensor) {
    this.#memory = memory;
  }

  take(shape: readonly number[]): Tensor {
    const { dtype, heap } = this.#memory;
    const { heapId, byteOffset } = this.#memory.descriptor;
    const start = byteOffset + this.#used;
    this.#used += lineBytes(dtype, shape);
    const strides = contiguousStrides(shape);
    return Tensor.fromDescriptor({ dtype, shape, strides, heapId, byteOffset: start }, heap);
  }
}

/** Weights of several shares of a model, over the same memory, all of them one small number. */
export class TrialWeights {
  readonly #heap: SharedHeap;
  readonly #stored: StoredDTypes;
  readonly #kind: WeightKind;
  readonly #pools = new Map<DType, Tensor>();

  /**
   * Takes memory for the largest of the shares and writes it: what nobody has written is not read from memory.
   * @throws HeapExhausted
   */
  constructor(
    heap: SharedHeap,
    config: ModelConfig,
    shares: readonly RankShare[],
    stored: StoredDTypes,
    kind: WeightKind,
  ) {
    this.#heap = heap;
    this.#stored = stored;
    this.#kind = kind;
    const most = new Map<DType, number>();
    for (const share of shares) {
      const bytes = new Map<DType, number>();
      const add = (dtype: DType, shape: readonly number[]): void => {
        bytes.set(dtype, (bytes.get(dtype) ?? 0) + lineBytes(dtype, shape));
      };
      mapLayout(
        partsOf(config, share),
        (part) => {
          add(this.#dtypeOf(part), shapeOf(part));
          if (kind === "i8") add("f32", scalesOf(part));
        },
        () => {},
      );
      for (const [dtype, sum] of bytes) most.set(dtype, Math.max(most.get(dtype) ?? 0, sum));
    }
    for (const [dtype, bytes] of most) {
      const pool = Tensor.empty(heap, dtype, [bytes / DTYPE_BYTES[dtype]]);
      this.#pools.set(dtype, pool.fill(dtype === "i8" ? 1 : WEIGHT));
    }
  }

  /** A share's weights: norms and biases in memory of their own. @throws HeapExhausted */
  of(config: ModelConfig, share: RankShare): ModelWeights {
    const pools = new Map([...this.#pools].map(([dtype, memory]) => [dtype, new Pool(memory)] as const));
    const take = (dtype: DType, shape: readonly number[]): Tensor => {
      const pool = pools.get(dtype);
      if (pool === undefined) throw new RangeError(`no weights in ${dtype}`);
      return pool.take(shape);
    };
    const made = mapLayout(
      partsOf(config, share),
      (part): Weight => {
        const dtype = this.#dtypeOf(part);
        const values = take(dtype, shapeOf(part));
        if (dtype === "i8") return { values, scales: take("f32", scalesOf(part)) };
        return dtype === "f16" ? { values, isFinite: true } : { values };
      },
      ({ rows }) => Tensor.zeros(this.#heap, "f32", [lengthOf(rows)]).fill(WEIGHT),
    );
    return { ...made, output: made.output ?? made.embedding };
  }

  #dtypeOf({ name }: MatrixPart): DType {
    return this.#kind === "i8" ? "i8" : storedDTypeOf(this.#stored, name);
  }
}

function partsOf(config: ModelConfig, share: RankShare) {
  const architecture = findArchitecture(config.architecture);
  if (architecture === undefined) throw new ModelError("config.json", "a known architecture", config.architecture);
  return weightParts(architecture, config, share);
}

function shapeOf({ rows, columns }: MatrixPart): readonly number[] {
  return [lengthOf(rows), lengthOf(columns)];
}

function scalesOf({ rows, columns }: MatrixPart): readonly number[] {
  return [lengthOf(rows), groupsOf(lengthOf(columns))];
}

function lineBytes(dtype: DType, shape: readonly number[]): number {
  const bytes = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
  return Math.ceil(bytes / HEAP_LINE_BYTES) * HEAP_LINE_BYTES;
}
