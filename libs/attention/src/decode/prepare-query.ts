import { headRange, type ProcessGroup } from "@lockstep/dist-groups";
import { type Allocator, ArgumentError, describe, formatShape, Tensor } from "@lockstep/tensor";
import { expectGroup, expectRecord } from "../arguments/expect-argument.ts";

/** Options of {@link dcpPrepareQuery}. */
export interface PrepareQueryOptions {
  /** Query heads of the whole group. Default: this rank's heads times the group's size. */
  readonly heads?: number;
  /** Where the gathered query goes [B, H, D]; must not overlap `query`. Default: a new tensor from `allocator`. */
  readonly out?: Tensor;
  /** Where a new result lives. Default: the heap of `query`. */
  readonly allocator?: Allocator;
  /** Longest wait for peers, in milliseconds. Default: that of the group. */
  readonly deadlineMs?: number | undefined;
}

/**
 * All-gathers the query along its heads, in rank order, so that every rank can attend for all heads over its own keys.
 * Called by every rank of `queryGroup`.
 *
 * @param query this rank's heads [B, h, D], any dtype and strides; rank r's h is its chunk of H (floor(H*r/n) to
 *   floor(H*(r+1)/n)), so H need not divide by the group's size
 * @param queryGroup ranks whose heads are gathered: the DCP group in the classic layout, TP in the original
 * @returns what it wrote: [B, H, D] of query's dtype
 * @throws ArgumentError for shapes that disagree; the group's errors (CollectiveTimeout, GroupAborted, ...)
 *
 * Source: `dcp_prepare_query` of vllm.v1.attention.ops.common, whose group is always TP.
 */
export function dcpPrepareQuery(query: Tensor, queryGroup: ProcessGroup, options: PrepareQueryOptions = {}): Tensor {
  expectGroup("dcpPrepareQuery", "queryGroup", queryGroup);
  expectRecord("dcpPrepareQuery", "options", options);
  if (!(query instanceof Tensor)) throw new ArgumentError("dcpPrepareQuery", "query", "a tensor", describe(query));
  const [batch = 0, own = 0, headDim = 0] = query.shape;
  if (query.rank !== 3) throw new ArgumentError("dcpPrepareQuery", "query", "of shape [B, h, D]", query.toString());
  const heads = options.heads ?? own * queryGroup.size;
  const { start, end } = headRange(heads, queryGroup.rank, queryGroup.size);
  if (end - start !== own) {
    throw new ArgumentError(
      "dcpPrepareQuery",
      "query",
      `[B, ${end - start}, D], chunk ${queryGroup.rank} of ${heads} heads over ${queryGroup.size} ranks`,
      formatShape(query.shape),
    );
  }
  const out = options.out ?? Tensor.empty(options.allocator ?? query.heap, query.dtype, [batch, heads, headDim]);
  queryGroup.allGather(query, out, { dim: 1, deadlineMs: options.deadlineMs });
  return out;
}
