// What an all-gather of one input into one output needs, worked out and checked once: tensors never change their shape
// or place, so a repeated call finds everything here, cached views included, and allocates nothing.

import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import { ByteMove } from "../reduction/byte-move.ts";
import { CONTIGUOUS, DIRECT, DTYPE_CODES, NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { checkAllGather } from "./all-gather-arguments.ts";
import type { GroupMember } from "./rounds.ts";

const OP = "allGather";

/** The moves of contiguous chunks that lie in one piece in the output. */
export interface ContiguousMoves {
  /** Input to this rank's staging area, for even and for odd sequence numbers. */
  readonly stage: readonly [ByteMove, ByteMove];
  /** Input to its place in the output. */
  readonly own: ByteMove;
  /** From every rank's staging area to the output, for even and for odd sequence numbers. */
  readonly unstage: readonly [readonly ByteMove[], readonly ByteMove[]];
  /** From the peers' own tensors; made again when a peer brings another tensor. */
  readonly direct: (ByteMove | undefined)[];
}

export class AllGatherPlan {
  readonly input: Tensor;
  readonly output: Tensor;
  /** The dimension as the caller names it. */
  readonly variant: number;
  readonly axis: number;
  readonly length: number;
  /** Length of this rank's chunk. */
  readonly count: number;
  readonly rowBytes: number;
  readonly inPlace: boolean;
  readonly direct: boolean;
  readonly signature: number;
  readonly flags: number;
  readonly bytesReceived: number;
  readonly moves: ContiguousMoves | undefined;
  /** Every rank's chunk where it lies, as it was read last; made again when a peer brings another tensor. */
  chunks: readonly Tensor[] = [];
  readonly #member: GroupMember;

  /** Checks the arguments. */
  constructor(member: GroupMember, input: Tensor, output: Tensor, dim: number) {
    const { run } = member;
    this.#member = member;
    const { size } = run;
    const { axis, length, count, inPlace } = checkAllGather(OP, member, input, output, dim, "");
    this.input = input;
    this.output = output;
    this.variant = dim;
    this.axis = axis;
    this.length = length;
    this.count = count;
    this.rowBytes = length === 0 ? 0 : (output.size / length) * DTYPE_BYTES[output.dtype];
    this.inPlace = inPlace;
    this.direct = Math.ceil(length / size) * this.rowBytes > run.stagedLimit;
    this.signature = signatureOf(OP_CODES[OP], DTYPE_CODES[output.dtype], NO_CODE, axis, output.shape.length);
    this.flags = (this.direct ? DIRECT : 0) | (input.isContiguous ? CONTIGUOUS : 0);
    this.bytesReceived = (length - count) * this.rowBytes;
    const inOnePiece = output.isContiguous && input.isContiguous && output.shape.slice(0, axis).every((n) => n === 1);
    this.moves = inOnePiece ? this.#contiguousMoves() : undefined;
  }

  /** The move of a contiguous chunk from byte address `from` to its place in the output. */
  moveFrom(peer: number, from: number): ByteMove {
    const { run, transport, kernels } = this.#member;
    const start = firstOfChunk(this.length, peer, run.size);
    const count = firstOfChunk(this.length, peer + 1, run.size) - start;
    const to = this.output.byteOffset + start * this.rowBytes;
    return new ByteMove(kernels, transport.words.buffer, to, from, count * this.rowBytes);
  }

  #contiguousMoves(): ContiguousMoves {
    const { run, transport, kernels } = this.#member;
    const { rank, ranks } = run;
    // A direct call stages nothing: its chunk may not fit.
    const bytes = this.direct ? 0 : this.count * this.rowBytes;
    const stage = (parity: 0 | 1): ByteMove =>
      new ByteMove(
        kernels,
        transport.words.buffer,
        transport.stagingAddress(rank, parity),
        this.input.byteOffset,
        bytes,
      );
    const unstage = (parity: 0 | 1): ByteMove[] =>
      this.direct ? [] : ranks.map((_, peer) => this.moveFrom(peer, transport.stagingAddress(peer, parity)));
    return {
      stage: [stage(0), stage(1)],
      own: this.moveFrom(rank, this.input.byteOffset),
      unstage: [unstage(0), unstage(1)],
      direct: ranks.map(() => undefined),
    };
  }
}
