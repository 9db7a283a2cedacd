import { headRange, type ProcessGroup } from "@lockstep/dist-groups";
import type { KernelBackend, LseBase } from "@lockstep/kernels";
import { type Allocator, Arena, ArgumentError, type DType, formatShape, Tensor } from "@lockstep/tensor";
import { dcpCorrectAttnOut } from "./correct-attn-out.ts";

const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/** How partial outputs are combined: see {@link dcpReduceOutput}. */
export type Combine = "ag-rs" | "a2a";

/** Arguments of {@link dcpReduceOutput}. */
export interface ReduceOutputArgs {
  /** Computes the correction or the merge. */
  readonly backend: KernelBackend;
  /** Ranks that share the keys of these heads. */
  readonly dcpGroup: ProcessGroup;
  /** Ranks whose query heads `attnOut` holds, in rank order. Default: `dcpGroup`. */
  readonly queryGroup?: ProcessGroup;
  /** This rank's partial output for all H heads of the query group [B, H, D], f32, f16 or bf16. Overwritten by ag-rs. */
  readonly attnOut: Tensor;
  /** Its LSE [B, H], f32. */
  readonly attnLse: Tensor;
  /** Default "ag-rs". */
  readonly combine?: Combine;
  /** Base of the LSEs, in and out. Default "e". */
  readonly base?: LseBase;
  /** Also return the LSE over the whole context of this rank's heads. */
  readonly returnLse?: boolean;
  /** Where the result goes [B, h, D]: of attnOut's dtype for ag-rs, f32, f16 or bf16 for a2a. Default: a new tensor. */
  readonly into?: Tensor;
  /** Where a returned LSE goes [B, h], f32. Default: a new tensor. */
  readonly lseInto?: Tensor;
  /** Where new results and scratch live. Default: the heap of `attnOut`. */
  readonly allocator?: Allocator;
  readonly deadlineMs?: number | undefined;
}

/**
 * Combines the partial outputs of a DCP group by their LSE and leaves this rank its own query heads: chunk
 * `queryGroup.rank` of the H heads. Called by every rank of `dcpGroup`.
 *
 * `ag-rs`: all-gather of the LSEs, correction, then a reduce-scatter along the heads when the DCP group and the query
 * group are the same ranks in the same order, else an all-reduce and this rank's slice. `a2a`: every rank takes its own
 * heads' partial outputs and LSEs from each peer and merges them in rank order, in f32; one collective instead of two.
 *
 * @returns the output [B, h, D] and, with `returnLse`, the LSE [B, h] in the base it came in
 * @throws ArgumentError for shapes that disagree; the groups' errors (CollectiveTimeout, GroupAborted, ...)
 *
 * Source: `dcp_reduce_output` of vllm.v1.attention.ops.common, which decides by the size of PCP and so returns the
 * wrong head count when a TP-wide gather meets a smaller DCP group; a2a after vLLM's `dcp_a2a_lse_reduce`.
 */
export async function dcpReduceOutput(args: ReduceOutputArgs): Promise<{ out: Tensor; lse?: Tensor }> {
  const { attnOut, attnLse } = args;
  const queryGroup = args.queryGroup ?? args.dcpGroup;
  const [batch = 0, heads = 0, headDim = 0] = attnOut.shape;
  if (attnOut.rank !== 3 || !FLOATS.includes(attnOut.dtype)) {
    throw new ArgumentError("dcpReduceOutput", "attnOut", "f32, f16 or bf16 of shape [B, H, D]", attnOut.toString());
  }
  if (args.combine !== undefined && args.combine !== "ag-rs" && args.combine !== "a2a") {
    throw new ArgumentError("dcpReduceOutput", "combine", '"ag-rs" or "a2a"', String(args.combine));
  }
  if (args.base !== undefined && args.base !== "e" && args.base !== "2") {
    throw new ArgumentError("dcpReduceOutput", "base", '"e" or "2"', String(args.base));
  }
  if (attnLse.rank !== 2 || attnLse.shape[0] !== batch || attnLse.shape[1] !== heads || attnLse.dtype !== "f32") {
    throw new ArgumentError("dcpReduceOutput", "attnLse", `f32 of shape [${batch}, ${heads}]`, attnLse.toString());
  }
  const { start, end } = headRange(heads, queryGroup.rank, queryGroup.size);
  const own: OwnHeads = { start, end, batch, heads, headDim };
  const allocator = args.allocator ?? attnOut.heap;
  const out = args.into ?? Tensor.empty(allocator, attnOut.dtype, [batch, end - start, headDim]);
  checkResult("into", out, [batch, end - start, headDim], args.combine === "a2a" ? FLOATS : [attnOut.dtype]);
  const wantsLse = args.returnLse === true || args.lseInto !== undefined;
  const lse = wantsLse ? (args.lseInto ?? Tensor.empty(allocator, "f32", [batch, end - start])) : undefined;
  if (lse !== undefined) checkResult("lseInto", lse, [batch, end - start], ["f32"]);
  if (args.combine === "a2a") await combineAllToAll(args, own, out, lse, allocator);
  else await combineGatherReduce(args, queryGroup, own, out, lse, allocator);
  return lse === undefined ? { out } : { out, lse };
}

interface OwnHeads {
  readonly start: number;
  readonly end: number;
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
}

async function combineGatherReduce(
  args: ReduceOutputArgs,
  queryGroup: ProcessGroup,
  own: OwnHeads,
  out: Tensor,
  lse: Tensor | undefined,
  allocator: Allocator,
): Promise<void> {
  const { backend, dcpGroup, attnOut, attnLse, base = "e" } = args;
  const { batch, heads } = own;
  const deadline = { deadlineMs: args.deadlineMs };
  const lses = Tensor.empty(allocator, "f32", [dcpGroup.size, batch, heads]);
  const globalLse = Tensor.empty(allocator, "f32", [batch, heads]);
  try {
    dcpGroup.allGather(attnLse.unsqueeze(0), lses, { dim: 0, ...deadline });
    await dcpCorrectAttnOut(backend, attnOut, lses, dcpGroup.rank, { base, lseInto: globalLse });
    if (sameRanks(dcpGroup, queryGroup)) dcpGroup.reduceScatter(attnOut, out, { dim: 1, ...deadline });
    else {
      dcpGroup.allReduce(attnOut, attnOut, deadline);
      out.copyFrom(attnOut.slice(1, own.start, own.end));
    }
    lse?.copyFrom(globalLse.slice(1, own.start, own.end));
  } finally {
    globalLse.free();
    lses.free();
  }
}

async function combineAllToAll(
  args: ReduceOutputArgs,
  own: OwnHeads,
  out: Tensor,
  lse: Tensor | undefined,
  allocator: Allocator,
): Promise<void> {
  const { backend, dcpGroup, attnOut, attnLse, base = "e" } = args;
  const element = attnOut.size === 0 ? 4 : attnOut.byteLength / attnOut.size;
  const rowBytes = own.headDim * element + 4;
  const rows = own.batch * (own.end - own.start);
  const exchange = { deadlineMs: args.deadlineMs, bytesRead: (dcpGroup.size - 1) * rows * rowBytes };
  const merged = lse === undefined ? { base, out } : { base, out, lse };
  const mine = (tensor: Tensor): Tensor => tensor.slice(1, own.start, own.end);
  const read = <T>(use: (outs: Tensor[], lses: Tensor[]) => T): T =>
    dcpGroup.readPeers(
      [attnOut, attnLse],
      (peers) => {
        const outs = peers.map(([peerOut]) => mine(peerOut ?? attnOut));
        const lses = peers.map(([, peerLse]) => mine(peerLse ?? attnLse));
        return use(outs, lses);
      },
      exchange,
    );
  if (backend.name !== "webgpu") {
    read((outs, lses) => backend.mergeAttnStates({ outs, lses, ...merged }));
    return;
  }
  // A GPU merge outlives the exchange: take copies of the peers' rows first.
  const scratch = new Arena(allocator.heap, dcpGroup.size * (rows * rowBytes + 256));
  try {
    const copies = read((outs, lses) => ({
      outs: outs.map((state) => state.clone(scratch)),
      lses: lses.map((state) => state.clone(scratch)),
    }));
    await backend.mergeAttnStates({ ...copies, ...merged });
  } finally {
    scratch.close();
  }
}

/** True when two groups hold the same ranks in the same order. */
function sameRanks(a: ProcessGroup, b: ProcessGroup): boolean {
  return a.size === b.size && a.ranks.every((rank, index) => rank === b.ranks[index]);
}

function checkResult(argument: string, tensor: Tensor, shape: readonly number[], dtypes: readonly DType[]): void {
  const agrees = tensor.rank === shape.length && shape.every((size, dim) => size === tensor.shape[dim]);
  if (!agrees || !dtypes.includes(tensor.dtype)) {
    const expected = `${dtypes.join(" or ")} of shape ${formatShape(shape)}`;
    throw new ArgumentError("dcpReduceOutput", argument, expected, tensor.toString());
  }
}
