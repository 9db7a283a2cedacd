// The likeliest tokens of a row in order, without sorting the row.
//
// A token's place in the order is one number: its logit's rank among all f32 times 2^21, and its id. Such numbers are
// integers below 2^53, so that engines sort them without calling back. One pass over the row keeps those that may be
// among the likeliest; whenever twice as many are kept as are wanted, the lesser half is dropped.

/** Most tokens of a vocabulary. */
export const MOST_TOKENS = 2 ** 21;

/** Memory to select a row's likeliest tokens in. */
export class LikeliestTokens {
  readonly #places: Float64Array;
  /** Ids of the tokens found last, likeliest first. Only the first {@link count} of them are. */
  readonly ids: Int32Array;
  #count = 0;

  /** @param vocabularySize tokens of a row, at most {@link MOST_TOKENS} */
  constructor(vocabularySize: number) {
    this.#places = new Float64Array(vocabularySize);
    this.ids = new Int32Array(vocabularySize);
  }

  /** Number of the tokens found last. */
  get count(): number {
    return this.#count;
  }

  /**
   * Finds the `wanted` likeliest tokens (all, if there are fewer), the lowest id first among equals. 0 and -0 are
   * equal.
   * @param logits [vocabulary size], all finite
   */
  find(logits: Float32Array, wanted: number): void {
    const size = logits.length;
    const most = Math.min(wanted, size);
    this.#count = most;
    if (most === 0) return;
    const places = this.#places;
    const bits = new Uint32Array(logits.buffer, logits.byteOffset, size);
    const room = Math.min(2 * most, size);
    let kept = 0;
    // Those that are equal to the least of enough tokens have a higher id than it.
    let least = Number.NEGATIVE_INFINITY;
    for (let id = 0; id < size; id++) {
      const logit = logits[id] ?? Number.NaN;
      if (!(logit > least)) continue;
      if (kept === room) {
        places.subarray(0, kept).sort();
        kept = most;
        least = logits[idAt(places, most - 1)] ?? Number.NaN;
        if (!(logit > least)) continue;
      }
      places[kept++] = placeOf(bits[id] ?? 0) * MOST_TOKENS + id;
    }
    places.subarray(0, kept).sort();
    for (let at = 0; at < most; at++) this.ids[at] = idAt(places, at);
  }
}

/** Where an f32 with these bits stands among all of them, the largest first. */
function placeOf(bits: number): number {
  if (bits < 0x80000000) return 0x7fffffff - bits;
  return bits === 0x80000000 ? 0x7fffffff : bits;
}

function idAt(places: Float64Array, at: number): number {
  const place = places[at] ?? 0;
  return place - Math.floor(place / MOST_TOKENS) * MOST_TOKENS;
}
