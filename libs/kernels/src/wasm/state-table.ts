import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import { WordTable } from "./word-table.ts";

/** What `lse.as.ts` is told of a partial state. */
export const STATE_TABLE = new WordTable({
  /** Pointer, token, head and column strides. */
  STATE_OUT: 4,
  /** Pointer, token and head strides; a word is unused. */
  STATE_LSE: 4,
});
/** Words of one entry. */
export const STATE_WORDS = STATE_TABLE.words;

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
  const width = out === undefined ? 0 : DTYPE_BYTES[out.dtype];
  const outAt = index * STATE_WORDS + STATE_TABLE.at.STATE_OUT;
  ints[outAt] = out?.byteOffset ?? 0;
  ints[outAt + 1] = (out?.strides[0] ?? 0) * width;
  ints[outAt + 2] = headStride(out, even) * width;
  ints[outAt + 3] = (out?.strides[2] ?? 0) * width;
  const lseAt = index * STATE_WORDS + STATE_TABLE.at.STATE_LSE;
  ints[lseAt] = lse?.byteOffset ?? 0;
  ints[lseAt + 1] = (lse?.strides[0] ?? 0) * 4;
  ints[lseAt + 2] = headStride(lse, even) * 4;
}

function headStride(tensor: Tensor | undefined, even: boolean): number {
  const [tokenStride = 0, stride = 0] = tensor?.strides ?? [];
  return even && tensor?.shape[1] === 1 ? tokenStride : stride;
}
