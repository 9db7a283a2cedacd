// Each row's largest logit and its token, over a vocabulary that is split over ranks: one exchange for all rows of a
// step, and for a word of rank 0's.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import { LogitsNotFinite } from "../errors.ts";
import type { Layers } from "../layers/layers.ts";

/** Words of a row: its largest logit, and the token's id. */
const ROW_WORDS = 2;

/** What steps of some number of rows exchange: made once for each number, so that the collective knows its tensors. */
interface Exchange {
  /**
   * For each row the bits of this rank's largest logit and its token's id: NaN for a row with a logit that is not
   * finite, -inf for a rank without logits. After the rows, the rank's word. [1, rows + 1, 2] i32.
   */
  readonly own: Tensor;
  readonly ownWords: Int32Array;
  readonly ownLogits: Float32Array;
  /** Every rank's [n, rows + 1, 2]. */
  readonly all: Tensor;
  readonly allWords: Int32Array;
  readonly allLogits: Float32Array;
}

/** Elements of what a rank exchanges: its own, and all ranks'. */
export function bestLogitsElements(world: number, maxRows: number): readonly number[] {
  const own = (maxRows + 1) * ROW_WORDS;
  return world === 1 ? [own] : [own, world * own];
}

/** The likeliest token of each row of a step, the same on every rank. */
export class BestLogits {
  readonly #layers: Layers;
  readonly #world: ProcessGroup;
  readonly #firstId: number;
  readonly #own: Tensor;
  readonly #all: Tensor;
  /** By the number of rows. */
  readonly #exchanges = new Map<number, Exchange>();
  /** Of each row of the last step, the likeliest token. */
  readonly tokens: Int32Array;
  /** Its logit. */
  readonly logits: Float32Array;
  /** Rank 0's word of the last step. */
  control = 0;

  /** `firstId` is the id of the token of this rank's first logit; `maxRows` the most rows of a step. */
  constructor(layers: Layers, world: ProcessGroup, heap: SharedHeap, firstId: number, maxRows: number) {
    this.#layers = layers;
    this.#world = world;
    this.#firstId = firstId;
    const [own = 0, all] = bestLogitsElements(world.size, maxRows);
    this.#own = Tensor.empty(heap, "i32", [own]);
    this.#all = all === undefined ? this.#own : Tensor.empty(heap, "i32", [all]);
    this.tokens = new Int32Array(maxRows);
    this.logits = new Float32Array(maxRows);
  }

  /**
   * Finds the largest of the logits [rows, vocabulary rows] of each row over all ranks, the lowest id among equals.
   * @param control this rank's word, an i32
   * @throws LogitsNotFinite on every rank, when a logit of any rank is NaN or infinite
   */
  find(logits: Tensor, control: number): void {
    const [rows = 0, width = 0] = logits.shape;
    const exchange = this.#exchangeOf(rows);
    const { own, ownWords, ownLogits, all } = exchange;
    const none = width === 0 ? Number.NEGATIVE_INFINITY : Number.NaN;
    const values = logits.f32;
    for (let row = 0; row < rows; row++) {
      const index = this.#layers.argmax(logits, row);
      ownLogits[ROW_WORDS * row] = index < 0 ? none : (values[row * width + index] ?? none);
      ownWords[ROW_WORDS * row + 1] = this.#firstId + index;
    }
    ownWords[ROW_WORDS * rows] = control;
    if (all !== own) this.#world.allGather(own, all, { dim: 0 });
    this.control = exchange.allWords[ROW_WORDS * rows] ?? 0;
    for (let row = 0; row < rows; row++) this.#takeBest(exchange, row, rows);
  }

  /** Ids grow with ranks: the first among equals has the lowest. */
  #takeBest({ allWords, allLogits }: Exchange, row: number, rows: number): void {
    let best = -1;
    let most = Number.NEGATIVE_INFINITY;
    for (let rank = 0; rank < this.#world.size; rank++) {
      const at = ROW_WORDS * (rank * (rows + 1) + row);
      const logit = allLogits[at] ?? Number.NaN;
      if (Number.isNaN(logit)) throw new LogitsNotFinite();
      if (logit > most) {
        most = logit;
        best = at;
      }
    }
    if (best < 0) throw new LogitsNotFinite();
    this.tokens[row] = allWords[best + 1] ?? -1;
    this.logits[row] = most;
  }

  #exchangeOf(rows: number): Exchange {
    const known = this.#exchanges.get(rows);
    if (known !== undefined) return known;
    const { size } = this.#world;
    const words = (rows + 1) * ROW_WORDS;
    const own = this.#own.slice(0, 0, words).reshape([1, rows + 1, ROW_WORDS]);
    const all = size === 1 ? own : this.#all.slice(0, 0, size * words).reshape([size, rows + 1, ROW_WORDS]);
    const made = {
      own,
      ownWords: own.i32,
      ownLogits: floatsOf(own),
      all,
      allWords: all.i32,
      allLogits: floatsOf(all),
    };
    this.#exchanges.set(rows, made);
    return made;
  }
}

/** The words of an i32 tensor as f32. */
function floatsOf(tensor: Tensor): Float32Array {
  const { buffer, byteOffset, length } = tensor.i32;
  return new Float32Array(buffer, byteOffset, length);
}
