import { forEachOffset, Tensor } from "@lockstep/tensor";
import { type CombineArgs, sameRanks } from "./combine.ts";
import { dcpCorrectAttnOut } from "./correct-attn-out.ts";

/**
 * LSE all-gather, correction, then a reduce-scatter along the heads when the DCP group and the query group are the same
 * ranks in the same order, else an all-reduce and this rank's slice. Overwrites the partial output.
 */
export async function combineGatherReduce(args: CombineArgs): Promise<void> {
  const { backend, dcpGroup, queryGroup, attnOut, attnLse, base, nonFinite, own, out, lse, allocator, deadlineMs } =
    args;
  const [batch = 0, heads = 0] = attnOut.shape;
  const lses = Tensor.empty(allocator, "f32", [dcpGroup.size, batch, heads]);
  const globalLse = Tensor.empty(allocator, "f32", [batch, heads]);
  try {
    dcpGroup.allGather(attnLse.unsqueeze(0), lses, { dim: 0, deadlineMs });
    await dcpCorrectAttnOut(backend, attnOut, lses, dcpGroup.rank, { base, nonFinite, lseInto: globalLse });
    if (sameRanks(dcpGroup, queryGroup)) dcpGroup.reduceScatter(attnOut, out, { dim: 1, deadlineMs });
    else {
      dcpGroup.allReduce(attnOut, attnOut, { deadlineMs });
      out.copyFrom(attnOut.slice(1, own.start, own.end));
    }
    if (out.dtype === "f32") clearNegativeZeros(out);
    lse?.copyFrom(globalLse.slice(1, own.start, own.end));
  } finally {
    globalLse.free();
    lses.free();
  }
}

const NEGATIVE_ZERO_BITS = 1 << 31;

/** -0 becomes 0, as in a merge, whose sums start from 0: so that the ways to combine agree in every bit. */
function clearNegativeZeros(out: Tensor): void {
  const { buffer, byteOffset, length } = out.elements;
  const bits = new Int32Array(buffer, byteOffset, length);
  if (out.isContiguous) {
    for (let at = 0; at < bits.length; at++) if (bits[at] === NEGATIVE_ZERO_BITS) bits[at] = 0;
    return;
  }
  forEachOffset(out.shape, out.strides, (at) => {
    if (bits[at] === NEGATIVE_ZERO_BITS) bits[at] = 0;
  });
}
