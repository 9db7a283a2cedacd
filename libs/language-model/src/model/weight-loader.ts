import { contiguousStrides, type DType, DTYPE_BYTES, type SharedHeap, Tensor } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import type { Layers } from "../layers/layers.ts";
import { groupsOf, matrixBytes, type Weight, type WeightKind } from "../layers/weight.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { lengthOf } from "./tensor-parallel.ts";
import type { MatrixPart, VectorPart } from "./weight-parts.ts";

/** Bytes after which progress is told. */
const TOLD_AT_ONCE = 16 << 20;

/** Where weights come from, where they go to, and how. */
export interface LoaderParts {
  readonly checkpoint: Checkpoint;
  readonly layers: Layers;
  readonly heap: SharedHeap;
  readonly kind: WeightKind;
  /** Bytes of room for what is not yet as it is kept. */
  readonly scratchBytes: number;
  /** Told the bytes of weights that are in place. */
  readonly onBytes: ((bytes: number) => void) | undefined;
}

/** Reads weights straight into a heap. At the end of its block all of them are given back, unless they were kept. */
export class WeightLoader implements Disposable {
  readonly #parts: LoaderParts;
  readonly #scratch: Tensor;
  #made: Tensor[] = [];
  #bytes = 0;

  /** @throws HeapExhausted */
  constructor(parts: LoaderParts) {
    this.#parts = parts;
    this.#scratch = Tensor.empty(parts.heap, "u8", [parts.scratchBytes]);
  }

  /**
   * The part of a matrix.
   * @throws ModelError for a NaN or an infinity that is to be kept in int8; HeapExhausted; SafetensorsError
   */
  matrix(part: MatrixPart): Weight {
    return this.#parts.kind === "stored" ? this.#stored(part) : this.#quantised(part);
  }

  /** The part of a vector, in f32. @throws HeapExhausted; SafetensorsError */
  vector({ name, rows }: VectorPart): Tensor {
    const { checkpoint, layers } = this.#parts;
    const file = checkpoint.fileOf(name);
    const { dtype } = file.info(name);
    const vector = this.#empty("f32", [lengthOf(rows)]);
    if (dtype === "f32") file.readInto(name, vector, { rows });
    else {
      const stored = this.#scratchOf(dtype, vector.shape);
      file.readInto(name, stored, { rows });
      layers.widen(stored, vector);
    }
    this.#tell(vector.byteLength);
    return vector;
  }

  /** Keeps what was loaded. */
  keep(): void {
    this.#made = [];
  }

  [Symbol.dispose](): void {
    this.#scratch.free();
    for (const tensor of this.#made) tensor.free();
    this.#made = [];
  }

  #stored({ name, rows, columns }: MatrixPart): Weight {
    const { checkpoint, layers } = this.#parts;
    const file = checkpoint.fileOf(name);
    const { dtype } = file.info(name);
    const [count, width] = [lengthOf(rows), lengthOf(columns)];
    const values = this.#empty(dtype, [count, width]);
    let allFinite = dtype === "f16";
    const rowBytes = width * DTYPE_BYTES[dtype];
    const most = rowsWithin(TOLD_AT_ONCE, rowBytes);
    for (let done = 0; done < count; done += most) {
      const end = Math.min(count, done + most);
      const block = values.slice(0, done, end);
      file.readInto(name, block, { rows: moved(rows.start, done, end), columns });
      allFinite &&= layers.isFinite(block);
      this.#tell((end - done) * rowBytes);
    }
    return dtype === "f16" ? { values, isFinite: allFinite } : { values };
  }

  #quantised({ name, rows, columns }: MatrixPart): Weight {
    const { checkpoint, layers, scratchBytes } = this.#parts;
    const file = checkpoint.fileOf(name);
    const { dtype } = file.info(name);
    const [count, width] = [lengthOf(rows), lengthOf(columns)];
    const values = this.#empty("i8", [count, width]);
    const scales = this.#empty("f32", [count, groupsOf(width)]);
    const most = rowsWithin(scratchBytes, width * DTYPE_BYTES[dtype]);
    for (let done = 0; done < count; done += most) {
      const end = Math.min(count, done + most);
      const stored = this.#scratchOf(dtype, [end - done, width]);
      file.readInto(name, stored, { rows: moved(rows.start, done, end), columns });
      const wrong = layers.quantise(stored, { values: values.slice(0, done, end), scales: scales.slice(0, done, end) });
      if (wrong >= 0) {
        const row = rows.start + done + wrong;
        throw new ModelError(
          file.path,
          `finite numbers in ${name}, to keep it in int8`,
          `NaN or infinity in row ${row}`,
        );
      }
      this.#tell(matrixBytes("i8", "f32", end - done, width));
    }
    return { values, scales };
  }

  #empty(dtype: DType, shape: readonly number[]): Tensor {
    const tensor = Tensor.empty(this.#parts.heap, dtype, shape);
    this.#made.push(tensor);
    return tensor;
  }

  /** The beginning of the scratch as a tensor. */
  #scratchOf(dtype: DType, shape: readonly number[]): Tensor {
    const { heapId, byteOffset } = this.#scratch.descriptor;
    const strides = contiguousStrides(shape);
    return Tensor.fromDescriptor({ dtype, shape, strides, heapId, byteOffset }, this.#parts.heap);
  }

  #tell(bytes: number): void {
    this.#bytes += bytes;
    this.#parts.onBytes?.(this.#bytes);
  }
}

/** Rows to take at once: as many as so many bytes hold, at least one. */
function rowsWithin(bytes: number, rowBytes: number): number {
  return Math.max(1, Math.floor(bytes / Math.max(1, rowBytes)));
}

/** The part [from, to) of a range that begins at `start`. */
function moved(start: number, from: number, to: number): { start: number; end: number } {
  return { start: start + from, end: start + to };
}
