import { ArgumentError, type SharedHeap, Tensor } from "@lockstep/tensor";
import { groupsOf, WEIGHT_GROUP } from "./weight.ts";

/** The most that one product with weights takes in. */
export interface InputRoom {
  /** Most tokens of one product, for speed: more are computed in several. */
  readonly maxTokens: number;
  /** Most inputs of a layer. */
  readonly maxInputs: number;
}

/** Most tokens computed at once: more would take more memory without being faster. */
const BLOCK_TOKENS = 96;
const F32_BYTES = 4;
/** What linear-tiles.as.ts keeps besides: constants, weights widened at a time, and sums for two tokens. */
const [KEY_BYTES, WIDENED_BYTES, PAIR_SUM_BYTES] = [64, 2 * 5 * 2048, 2 * 2 * 160];
/** Bytes of a group of inputs of int8 weights: 32 int16 and an f32 scale. */
const GROUP_BYTES = 2 * WEIGHT_GROUP + 4;

/** Bytes of scratch memory for products of no more than that. */
export function linearScratchBytes({ maxTokens, maxInputs }: InputRoom): number {
  const tokens = Math.min(maxTokens, BLOCK_TOKENS);
  const pairs = Math.ceil(tokens / 2);
  const floats = pairs * (2 * F32_BYTES * maxInputs + PAIR_SUM_BYTES) + WIDENED_BYTES + KEY_BYTES;
  return Math.max(floats, tokens * groupsOf(maxInputs) * GROUP_BYTES);
}

/**
 * Scratch memory of linear layers, allocated once: for inputs in the order that float weights want, and those weights
 * in f32; or for quantised inputs of int8 weights.
 */
export class LinearScratch {
  /** Tokens that are computed at once, at most. */
  readonly blockTokens: number;
  readonly #maxInputs: number;
  readonly #byteOffset: number;

  /** @throws HeapExhausted */
  constructor(heap: SharedHeap, room: InputRoom) {
    this.blockTokens = Math.min(room.maxTokens, BLOCK_TOKENS);
    this.#maxInputs = room.maxInputs;
    this.#byteOffset = Tensor.empty(heap, "u8", [linearScratchBytes(room)]).byteOffset;
  }

  /**
   * Byte offset of scratch memory for a layer of so many inputs.
   * @throws ArgumentError when they are more than there is room for
   */
  place(inputs: number): number {
    if (inputs > this.#maxInputs) {
      const most = `at most ${this.#maxInputs} inputs a row, the room there is`;
      throw new ArgumentError("Layers.linear", "x", most, `${inputs}`);
    }
    return this.#byteOffset;
  }
}

/** Bytes of the integers of so many tokens' quantised inputs, which their scales follow. */
export function quantisedBytes(tokens: number, inputs: number): number {
  return tokens * groupsOf(inputs) * 2 * WEIGHT_GROUP;
}
