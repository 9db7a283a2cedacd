// Rows of logits as a whole, over a vocabulary that is split over ranks.
//
// Row j of a step belongs to rank j mod n, which alone puts it together: in rounds of a few rows each rank lays out its
// part of them where peers reach it, those of a rank one after another, and each row's rank reads all parts. A round
// takes about ROUND_BYTES of memory in all, or a row for each rank where that is more. Traffic: each row goes to one
// rank, once.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { DTYPE_BYTES, type SharedHeap, Tensor } from "@lockstep/tensor";

/** What the rows of a round take over all ranks, about. */
const ROUND_BYTES = 1 << 20;

/** The sizes that decide how rows are put together. */
export interface WholeRowSizes {
  readonly world: number;
  /** Tokens of the vocabulary. */
  readonly vocabularySize: number;
  /** Those of them whose logits this rank has. */
  readonly ownVocabulary: number;
  /** Most rows of a step. */
  readonly maxRows: number;
}

/** Rows that are put together at a time: as many for each rank. */
export function roundRows({ world, vocabularySize, maxRows }: WholeRowSizes): number {
  const most = Math.ceil(maxRows / world);
  const fitting = Math.floor(ROUND_BYTES / (DTYPE_BYTES.f32 * Math.max(1, vocabularySize) * world));
  return world * Math.min(most, Math.max(1, fitting));
}

/** Elements of what a rank lays out for its peers. */
export function wholeRowElements(sizes: WholeRowSizes): readonly number[] {
  return sizes.world === 1 ? [] : [roundRows(sizes) * sizes.ownVocabulary];
}

/** Puts rows together on the ranks that they belong to. */
export class WholeRows {
  readonly #world: ProcessGroup;
  readonly #sizes: WholeRowSizes;
  /** Parts of a round's rows [ranks, rows of each * own vocabulary]. */
  readonly #parts: readonly Tensor[];
  readonly #row: Float32Array;

  constructor(world: ProcessGroup, heap: SharedHeap, sizes: WholeRowSizes) {
    this.#world = world;
    this.#sizes = sizes;
    this.#parts = wholeRowElements(sizes).map((elements) =>
      Tensor.empty(heap, "f32", [sizes.world, elements / sizes.world]),
    );
    this.#row = new Float32Array(sizes.vocabularySize);
  }

  /**
   * Calls `take` with each row that belongs to this rank. Every rank calls it with the same rows.
   * @param logits contiguous [rows, own vocabulary]
   * @param rows numbers of the rows wanted; the one at place j of them belongs to rank j mod n
   * @param take given a place in `rows`, and that row's logits [vocabulary size], valid during the call
   */
  forEach(logits: Tensor, rows: readonly number[], take: (place: number, row: Float32Array) => void): void {
    const { world, ownVocabulary } = this.#sizes;
    const values = logits.f32;
    const partOf = (place: number): Float32Array => {
      const row = rows[place] ?? -1;
      return values.subarray(row * ownVocabulary, (row + 1) * ownVocabulary);
    };
    if (world === 1) {
      for (let place = 0; place < rows.length; place++) {
        // Not where the logits lie: memory of one thread is read faster.
        this.#row.set(partOf(place));
        take(place, this.#row);
      }
      return;
    }
    const step = roundRows(this.#sizes);
    for (let first = 0; first < rows.length; first += step) {
      const end = Math.min(first + step, rows.length);
      this.#round(first, end, partOf, take);
    }
  }

  #round(
    first: number,
    end: number,
    partOf: (place: number) => Float32Array,
    take: (place: number, row: Float32Array) => void,
  ): void {
    const { world, vocabularySize, ownVocabulary } = this.#sizes;
    const parts = this.#parts[0]?.f32 ?? new Float32Array();
    const rowsOfRank = roundRows(this.#sizes) / world;
    for (let place = first; place < end; place++) {
      const [owner, turn] = [(place - first) % world, Math.floor((place - first) / world)];
      parts.set(partOf(place), (owner * rowsOfRank + turn) * ownVocabulary);
    }
    const { rank } = this.#world;
    const owned = Math.max(0, Math.ceil((end - first - rank) / world));
    const bytesRead = owned * (vocabularySize - ownVocabulary) * DTYPE_BYTES.f32;
    const read = (tensors: readonly (readonly Tensor[])[]): void => {
      const views = tensors.map(([part]) => part?.f32 ?? new Float32Array());
      for (let place = first + rank; place < end; place += world) {
        let at = 0;
        for (const view of views) {
          const width = view.length / rowsOfRank;
          const from = Math.floor((place - first) / world) * width;
          this.#row.set(view.subarray(from, from + width), at);
          at += width;
        }
        take(place, this.#row);
      }
    };
    this.#world.readPeers(this.#parts, read, { bytesRead, dim: 0 });
  }
}
