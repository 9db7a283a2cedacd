import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";

/** Words of one entry; see `lse.as.ts`. */
export const STATE_WORDS = 8;

/**
 * True when rows [T, H] of every tensor lie evenly apart, so that they can be walked as one token of T * H heads. The
 * kernels take four heads at a time: this fills their lanes however few heads there are.
 */
export function rowsAreEven(tensors: readonly (Tensor | undefined)[]): boolean {
  return tensors.every((tensor) => {
    if (tensor === undefined) return true;
    const [tokens = 0, heads = 0] = tensor.shape;
    return tokens <= 1 || heads === 1 || tensor.strides[0] === (tensor.strides[1] ?? 0) * heads;
  });
}

/**
 * Describes a partial state for the kernels: rows [T, H, D] and LSEs [T, H], either of which may be left out. `even`
 * says that its rows are walked as one token.
 */
export function writeState(
  ints: Int32Array,
  index: number,
  out: Tensor | undefined,
  lse: Tensor | undefined,
  even: boolean,
): void {
  const at = index * STATE_WORDS;
  const width = out === undefined ? 0 : DTYPE_BYTES[out.dtype];
  ints[at] = out?.byteOffset ?? 0;
  ints[at + 1] = (out?.strides[0] ?? 0) * width;
  ints[at + 2] = headStride(out, even) * width;
  ints[at + 3] = (out?.strides[2] ?? 0) * width;
  ints[at + 4] = lse?.byteOffset ?? 0;
  ints[at + 5] = (lse?.strides[0] ?? 0) * 4;
  ints[at + 6] = headStride(lse, even) * 4;
}

function headStride(tensor: Tensor | undefined, even: boolean): number {
  const [tokenStride = 0, stride = 0] = tensor?.strides ?? [];
  return even && tensor?.shape[1] === 1 ? tokenStride : stride;
}
