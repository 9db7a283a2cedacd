import { forEachOffset, type Tensor } from "@lockstep/tensor";
import { rawElements } from "../reference/raw-elements.ts";
import { Random } from "./random.ts";

/** Fills a tensor with random bit patterns of `bits` bits, whatever its dtype makes of them. */
export function fillRandomBits(tensor: Tensor, seed: number, bits: number): void {
  const random = new Random(seed);
  const raw = rawElements(tensor);
  forEachOffset(tensor.shape, tensor.strides, (offset) => {
    raw[offset] = random.integer(2 ** bits);
  });
}
