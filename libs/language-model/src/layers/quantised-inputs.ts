import { ArgumentError, type SharedHeap, Tensor } from "@lockstep/tensor";
import { groupsOf, WEIGHT_GROUP } from "./weight.ts";

/** The most that one product with int8 weights takes in. */
export interface InputRoom {
  /** Most tokens of one product. */
  readonly maxTokens: number;
  /** Most inputs of a layer. */
  readonly maxInputs: number;
}

/** Bytes of room for the inputs of products with int8 weights: 32 int16 and an f32 scale for each group. */
export function quantisedInputBytes({ maxTokens, maxInputs }: InputRoom): number {
  return maxTokens * groupsOf(maxInputs) * (2 * WEIGHT_GROUP + 4);
}

/** Room for the inputs of products with int8 weights, allocated once. */
export class QuantisedInputs {
  readonly #room: Tensor;

  /** @throws HeapExhausted */
  constructor(heap: SharedHeap, room: InputRoom) {
    this.#room = Tensor.empty(heap, "u8", [quantisedInputBytes(room)]);
  }

  /**
   * Byte offsets of the integers and the scales of so many tokens.
   * @throws ArgumentError when they take more room than there is
   */
  place(tokens: number, inputs: number): readonly [integers: number, scales: number] {
    const groups = tokens * groupsOf(inputs);
    if (groups * (2 * WEIGHT_GROUP + 4) > this.#room.size) {
      const most = `at most ${this.#room.size} bytes quantised, the room there is`;
      throw new ArgumentError("Layers.linear", "x", most, `${tokens} rows of ${inputs}`);
    }
    const { byteOffset } = this.#room;
    return [byteOffset, byteOffset + groups * 2 * WEIGHT_GROUP];
  }
}
