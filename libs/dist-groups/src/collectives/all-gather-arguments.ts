import { isViewAt, overlaps, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import { checkChunkShape, checkDim, checkOutput, checkSameDType, checkTensor, overlapError } from "./arguments.ts";
import type { GroupMember } from "./rounds.ts";

/** What follows from the arguments of an all-gather. */
export interface AllGatherShape {
  /** The gathered dimension, from 0. */
  readonly axis: number;
  /** Its length in the output. */
  readonly length: number;
  /** Length of this rank's chunk. */
  readonly count: number;
  /** The input is this rank's chunk of the output. */
  readonly inPlace: boolean;
}

/**
 * Throws unless `input` is what this rank has to bring to an all-gather into `output` along `dim`. `suffix` goes with
 * the names of the arguments, as in `inputs[2]`.
 */
export function checkAllGather(
  op: string,
  { run, heap }: GroupMember,
  input: Tensor,
  output: Tensor,
  dim: number,
  suffix: string,
): AllGatherShape {
  const { rank, size } = run;
  const [inputName, outputName] = suffix === "" ? ["input", "output"] : [`inputs${suffix}`, `outputs${suffix}`];
  checkTensor(op, inputName, input, heap);
  checkOutput(op, outputName, output, heap);
  checkSameDType(op, inputName, input, output);
  const axis = checkDim(op, dim, output);
  const length = output.shape[axis] ?? 0;
  const start = firstOfChunk(length, rank, size);
  const count = firstOfChunk(length, rank + 1, size) - start;
  checkChunkShape(op, inputName, input, output.shape, axis, count);
  const inPlace = overlaps(input, output);
  if (inPlace && !isViewAt(input, output, start * (output.strides[axis] ?? 0), input.shape)) {
    throw overlapError(op, outputName, inputName);
  }
  return { axis, length, count, inPlace };
}
