import type { KernelBackend, LseBase, NonFinite } from "@lockstep/kernels";
import { type Allocator, ArgumentError, describe, formatShape, Tensor } from "@lockstep/tensor";
import { expectBackend, expectRecord } from "../arguments/expect-argument.ts";

/** Options of {@link dcpCorrectAttnOut}. */
export interface CorrectOptions {
  /** Base of the LSEs, in and out. Default "e". */
  readonly base?: LseBase;
  /** What becomes of NaN and infinities. Default "original". */
  readonly nonFinite?: NonFinite;
  /** Where the corrected output goes [B, H, D], of partialOut's dtype. Default: in place, over `partialOut`. */
  readonly out?: Tensor;
  /** Where the LSE over all ranks goes [B, H], f32. Default: a new tensor from `allocator`. */
  readonly lse?: Tensor;
  /** Where a new LSE lives. Default: the heap of `partialOut`. */
  readonly allocator?: Allocator;
}

/**
 * Scales one rank's partial attention output by the share its keys have in the whole context, so that the sum over
 * ranks is the attention output. Does not sum over ranks itself.
 *
 * @param backend computes; any backend
 * @param partialOut partial output of this rank [B, H, D] or [B, 1, H, D], f32, f16 or bf16, any strides
 * @param lses LSEs of all N ranks, f32: [N, B, H], [N, B, H, 1], [N, 1, B, H] or [N, B, 1, H], any strides
 * @param rank index of this rank within the N
 * @returns what it wrote: the corrected output [B, H, D] and the LSE over all ranks [B, H], in the base it came in. In
 *   the mode "original" a row whose factor is 0 is exactly 0; where no rank has keys the output is 0 and the LSE -inf.
 * @throws ArgumentError for shapes that disagree; nothing is written then
 *
 * Source: `_dcp_correct_attn_out` of vllm.v1.attention.ops.common.
 */
export async function dcpCorrectAttnOut(
  backend: KernelBackend,
  partialOut: Tensor,
  lses: Tensor,
  rank: number,
  options: CorrectOptions = {},
): Promise<{ out: Tensor; lse: Tensor }> {
  expectRecord("dcpCorrectAttnOut", "options", options);
  for (const [argument, tensor] of [
    ["partialOut", partialOut],
    ["lses", lses],
    ["out", options.out ?? partialOut],
    ["lse", options.lse ?? partialOut],
  ] as const) {
    if (!(tensor instanceof Tensor))
      throw new ArgumentError("dcpCorrectAttnOut", argument, "a tensor", describe(tensor));
    tensor.assertUsable("dcpCorrectAttnOut", argument);
  }
  expectBackend("dcpCorrectAttnOut", "backend", backend);
  const partial = squeezeOut("partialOut", partialOut);
  const [batch = 0, heads = 0] = partial.shape;
  const gathered = squeezeLses(lses, batch, heads);
  const out = options.out === undefined ? partial : squeezeOut("out", options.out);
  const lse = options.lse ?? Tensor.empty(options.allocator ?? partialOut.heap, "f32", [batch, heads]);
  try {
    const { base = "e", nonFinite = "original" } = options;
    await backend.correctAttnOut({ partialOut: partial, lses: gathered, rank, base, nonFinite, out, lse });
  } catch (error) {
    if (options.lse === undefined) lse.free();
    throw error;
  }
  return { out, lse };
}

function squeezeOut(argument: string, out: Tensor): Tensor {
  if (out.rank === 4 && out.shape[1] === 1) return out.squeeze(1);
  if (out.rank === 3) return out;
  throw new ArgumentError("dcpCorrectAttnOut", argument, "of shape [B, H, D] or [B, 1, H, D]", formatShape(out.shape));
}

function squeezeLses(lses: Tensor, batch: number, heads: number): Tensor {
  if (lses.rank === 3) return lses;
  if (lses.rank === 4) {
    for (const dim of [3, 1, 2]) {
      if (lses.shape[dim] !== 1) continue;
      const candidate = lses.squeeze(dim);
      if (candidate.shape[1] === batch && candidate.shape[2] === heads) return candidate;
    }
  }
  throw new ArgumentError(
    "dcpCorrectAttnOut",
    "lses",
    `of shape [N, ${batch}, ${heads}], or that with one more dimension of size 1`,
    formatShape(lses.shape),
  );
}
