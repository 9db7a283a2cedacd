import type { Tensor } from "@lockstep/tensor";
import type { OpCase } from "../../testing/op-case.ts";
import { emptyStrided } from "../../testing/strided.ts";
import { describeSeqRow, randomBitsTensor, SEQ_ROWS } from "../pack-seq/cases.ts";
import type { UnpackSeqArgs } from "./index.ts";

export interface HeapUnpackSeqArgs extends UnpackSeqArgs {
  readonly packed: Tensor;
  readonly out: Tensor;
}

/** packSeq's rows; `extraRows` makes Lmax larger than the longest length. */
export const UNPACK_SEQ_CASES: readonly OpCase<HeapUnpackSeqArgs>[] = SEQ_ROWS.map((row, index) => ({
  name: describeSeqRow(row),
  tolerance: "bits",
  build: (arena) => {
    const { lengths, trailing, dtype = "f32", layout = "contiguous", extraRows = 0, blocks } = row;
    const sum = lengths.reduce((total, length) => total + length, 0);
    const shape = [lengths.length, Math.max(0, ...lengths) + extraRows, ...trailing];
    return {
      packed: randomBitsTensor(arena, dtype, shape, layout, 2100 + index),
      lengths,
      ...(blocks === undefined ? {} : { blockT: blocks[0], blockD: blocks[1] }),
      out: emptyStrided(arena, dtype, [sum, ...trailing], layout),
    };
  },
}));
