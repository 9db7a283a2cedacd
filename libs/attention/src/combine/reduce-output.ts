import { headRange, type ProcessGroup } from "@lockstep/dist-groups";
import { expectApart, expectWritable, type KernelBackend, type LseBase, type NonFinite } from "@lockstep/kernels";
import { type Allocator, ArgumentError, type DType, describe, Tensor } from "@lockstep/tensor";
import { expectBackend, expectGroup, expectRecord } from "../arguments/expect-argument.ts";
import { expectTensor } from "../arguments/expect-tensor.ts";
import { COMBINES, type Combine, DEFAULT_COMBINE, OUTPUT_DTYPES } from "./combine.ts";
import { COMBINE_WAYS } from "./combine-table.ts";

/** Arguments of {@link dcpReduceOutput}. */
export interface ReduceOutputArgs {
  /** Computes the correction or the merge. */
  readonly backend: KernelBackend;
  /** Ranks that share the keys of these heads. */
  readonly dcpGroup: ProcessGroup;
  /** Ranks whose query heads `partialOut` holds, in rank order. Default: `dcpGroup`. */
  readonly queryGroup?: ProcessGroup;
  /** This rank's partial output for all heads of the query group [B, H, D], f32, f16 or bf16. Overwritten by ag-rs. */
  readonly partialOut: Tensor;
  /** Its LSE [B, H], f32. */
  readonly partialLse: Tensor;
  /** Default {@link DEFAULT_COMBINE}, "a2a": what `auto` of DcpAttention is without measurements. */
  readonly combine?: Combine;
  /** Base of the LSEs, in and out. Default "e". */
  readonly base?: LseBase;
  /** What becomes of NaN and infinities, the same on every rank. Default "original". */
  readonly nonFinite?: NonFinite;
  /** Also return the LSE over the whole context of this rank's heads. */
  readonly returnLse?: boolean;
  /** Where the result goes [B, h, D]: of partialOut's dtype for ag-rs, else f32, f16 or bf16. Default: a new tensor. */
  readonly out?: Tensor;
  /** Where a returned LSE goes [B, h], f32. Default: a new tensor. */
  readonly lse?: Tensor;
  /** Where new results and scratch live. Default: the heap of `partialOut`. */
  readonly allocator?: Allocator;
  /** Longest wait for peers, in milliseconds. Default: that of the groups. */
  readonly deadlineMs?: number | undefined;
}

/**
 * Combines the partial outputs of a DCP group by their LSE and leaves this rank its own query heads: chunk
 * `queryGroup.rank` of the H heads. Called by every rank of `dcpGroup`.
 *
 * See {@link Combine} for the ways to do it. ag-rs ends with a reduce-scatter when the DCP group and the query group
 * are the same ranks in the same order, else with an all-reduce, of which this rank takes its slice.
 *
 * @returns what it wrote: the output [B, h, D] and, with `returnLse`, the LSE [B, h] in the base it came in
 * @throws ArgumentError for shapes that disagree; the groups' errors (CollectiveTimeout, GroupAborted, ...)
 *
 * Source: `dcp_reduce_output` of vllm.v1.attention.ops.common, which decides by the size of PCP and so returns the
 * wrong head count when a TP-wide gather meets a smaller DCP group; a2a after vLLM's `dcp_a2a_lse_reduce`.
 */
export async function dcpReduceOutput(args: ReduceOutputArgs): Promise<{ out: Tensor; lse?: Tensor }> {
  expectRecord("dcpReduceOutput", "args", args);
  const { partialOut, partialLse } = args;
  expectBackend("dcpReduceOutput", "backend", args.backend);
  expectGroup("dcpReduceOutput", "dcpGroup", args.dcpGroup);
  if (args.queryGroup !== undefined) expectGroup("dcpReduceOutput", "queryGroup", args.queryGroup);
  for (const [name, tensor] of Object.entries({ partialOut, partialLse })) {
    if (!(tensor instanceof Tensor)) throw new ArgumentError("dcpReduceOutput", name, "a tensor", describe(tensor));
    tensor.assertUsable("dcpReduceOutput", name);
  }
  const queryGroup = args.queryGroup ?? args.dcpGroup;
  const [batch = 0, heads = 0, headDim = 0] = partialOut.shape;
  if (partialOut.rank !== 3 || !OUTPUT_DTYPES.includes(partialOut.dtype)) {
    throw new ArgumentError(
      "dcpReduceOutput",
      "partialOut",
      "f32, f16 or bf16 of shape [B, H, D]",
      partialOut.toString(),
    );
  }
  const combine = args.combine ?? DEFAULT_COMBINE;
  if (!COMBINES.includes(combine)) {
    throw new ArgumentError("dcpReduceOutput", "combine", '"ag-rs", "a2a" or "one-shot"', describe(combine));
  }
  if (args.base !== undefined && args.base !== "e" && args.base !== "2") {
    throw new ArgumentError("dcpReduceOutput", "base", '"e" or "2"', describe(args.base));
  }
  if (
    partialLse.rank !== 2 ||
    partialLse.shape[0] !== batch ||
    partialLse.shape[1] !== heads ||
    partialLse.dtype !== "f32"
  ) {
    throw new ArgumentError(
      "dcpReduceOutput",
      "partialLse",
      `f32 of shape [${batch}, ${heads}]`,
      partialLse.toString(),
    );
  }
  const own = headRange(heads, queryGroup.rank, queryGroup.size);
  const way = COMBINE_WAYS[combine];
  const { backend, dcpGroup, base = "e", nonFinite = "original", deadlineMs } = args;
  if (nonFinite !== "original" && nonFinite !== "propagate") {
    throw new ArgumentError("dcpReduceOutput", "nonFinite", '"original" or "propagate"', describe(nonFinite));
  }
  const outShape = [batch, own.count, headDim];
  const lseShape = [batch, own.count];
  checkResults(args, way.resultDtypes(partialOut.dtype), outShape, lseShape);
  const allocator = args.allocator ?? partialOut.heap;
  const made: Tensor[] = [];
  const make = (dtype: DType, shape: readonly number[]): Tensor => {
    const tensor = Tensor.empty(allocator, dtype, shape);
    made.push(tensor);
    return tensor;
  };
  try {
    const out = args.out ?? make(partialOut.dtype, outShape);
    const lse = args.lse ?? (args.returnLse === true ? make("f32", lseShape) : undefined);
    const setup = { backend, dcpGroup, queryGroup, own, base, nonFinite, allocator, deadlineMs };
    await way.reduce({ out: partialOut, lse: partialLse }, setup, out, lse);
    return lse === undefined ? { out } : { out, lse };
  } catch (error) {
    for (const tensor of made) tensor.free();
    throw error;
  }
}

/** Before ranks meet: what one rank refuses only then ends the group. @throws ArgumentError */
function checkResults(
  { partialOut, partialLse, out, lse }: ReduceOutputArgs,
  outDtypes: readonly DType[],
  outShape: readonly number[],
  lseShape: readonly number[],
): void {
  const operation = "dcpReduceOutput";
  if (out !== undefined) {
    expectTensor(operation, "out", out, outDtypes, outShape);
    expectWritable(operation, "out", out);
    expectApart(operation, "out", out, "partialOut", partialOut);
    expectApart(operation, "out", out, "partialLse", partialLse);
  }
  if (lse === undefined) return;
  expectTensor(operation, "lse", lse, ["f32"], lseShape);
  expectWritable(operation, "lse", lse);
  expectApart(operation, "lse", lse, "partialOut", partialOut);
  expectApart(operation, "lse", lse, "partialLse", partialLse);
  if (out !== undefined) expectApart(operation, "lse", lse, "out", out);
}
