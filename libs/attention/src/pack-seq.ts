import { checkLengths, type KernelBackend } from "@lockstep/kernels";
import { type Allocator, ArgumentError, describe, Tensor } from "@lockstep/tensor";
import { expectBackend } from "./arguments/expect-argument.ts";

/** Options of {@link packSeq} and {@link unpackSeq}. */
export interface PackOptions {
  /** Where the result goes. Default: a new tensor from `allocator`. */
  readonly out?: Tensor;
  /** Where a new result lives. Default: the heap of the input. */
  readonly allocator?: Allocator;
  /** Tuning hints that never change the result. Default 64. */
  readonly blockT?: number;
  /** As `blockT`. */
  readonly blockD?: number;
}

/** Lengths as numbers, or as a one-dimensional i32 tensor. */
export type Lengths = ArrayLike<number> | Tensor;

/**
 * Packs sequences that lie one after another into a padded batch.
 *
 * @param x [T, ...], any dtype; rows beyond sum(lengths) are ignored
 * @param lengths length of each of the B sequences
 * @param options.padValue what fills rows beyond each length; default -inf (0 for integers)
 * @returns what it wrote: [B, max(lengths), ...] of x's dtype
 * @throws ArgumentError for a negative length, lengths that sum to more than T, or a pad x's dtype cannot hold
 *
 * Source: `pack_seq_triton` of vllm.v1.attention.ops.common.
 */
export async function packSeq(
  backend: KernelBackend,
  x: Tensor,
  lengths: Lengths,
  options: PackOptions & { readonly padValue?: number } = {},
): Promise<Tensor> {
  expectBackend("packSeq", "backend", backend);
  expectInput("packSeq", "x", x, options);
  const sizes = lengthList("packSeq", lengths);
  const { sum, max } = checkLengths("packSeq", sizes);
  const rows = x.shape[0] ?? 0;
  if (sum > rows) {
    throw new ArgumentError("packSeq", "lengths", `a sum of at most ${rows}, the rows of x`, `a sum of ${sum}`);
  }
  const out = resultTensor(options, x, [sizes.length, max, ...x.shape.slice(1)]);
  const { out: _, allocator: __, ...hints } = options;
  await releasingOnFailure(options, out, () => backend.packSeq({ x, lengths: sizes, out, ...hints }));
  return out;
}

/**
 * The inverse of {@link packSeq}: drops the padding.
 *
 * @param packed [B, Lmax, ...], any dtype
 * @param lengths length of each of the B sequences, at most Lmax
 * @returns what it wrote: [sum(lengths), ...] of packed's dtype
 * @throws ArgumentError for a length beyond Lmax or a negative one
 *
 * Source: `unpack_seq_triton` of vllm.v1.attention.ops.common.
 */
export async function unpackSeq(
  backend: KernelBackend,
  packed: Tensor,
  lengths: Lengths,
  options: PackOptions = {},
): Promise<Tensor> {
  expectBackend("unpackSeq", "backend", backend);
  expectInput("unpackSeq", "packed", packed, options);
  const sizes = lengthList("unpackSeq", lengths);
  const { sum } = checkLengths("unpackSeq", sizes, packed.shape[1] ?? 0);
  const out = resultTensor(options, packed, [sum, ...packed.shape.slice(2)]);
  const { out: _, allocator: __, ...hints } = options;
  await releasingOnFailure(options, out, () => backend.unpackSeq({ packed, lengths: sizes, out, ...hints }));
  return out;
}

function lengthList(operation: string, lengths: Lengths): number[] {
  if (lengths instanceof Tensor && (lengths.rank !== 1 || lengths.dtype !== "i32")) {
    throw new ArgumentError(operation, "lengths", "a list of numbers or an i32 tensor [B]", lengths.toString());
  }
  if (lengths instanceof Tensor) return Array.from(lengths.toNumbers());
  checkLengths(operation, lengths);
  return Array.from(lengths);
}

function expectInput(operation: string, argument: string, input: Tensor, options: PackOptions): void {
  if (!(input instanceof Tensor)) throw new ArgumentError(operation, argument, "a tensor", describe(input));
  input.assertUsable(operation, argument);
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(operation, "options", "an object", describe(options));
  }
}

function resultTensor(options: PackOptions, input: Tensor, shape: readonly number[]): Tensor {
  return options.out ?? Tensor.empty(options.allocator ?? input.heap, input.dtype, shape);
}

async function releasingOnFailure(
  options: PackOptions,
  out: Tensor,
  run: () => Promise<void> | undefined,
): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (options.out === undefined) out.free();
    throw error;
  }
}
