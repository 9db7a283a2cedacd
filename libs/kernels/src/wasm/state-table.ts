import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";

/** Words of one entry; see `lse.as.ts`. */
export const STATE_WORDS = 8;

/** Describes a partial state for the kernels: rows [T, H, D] and LSEs [T, H], either of which may be left out. */
export function writeState(ints: Int32Array, index: number, out: Tensor | undefined, lse: Tensor | undefined): void {
  let at = index * STATE_WORDS;
  const width = out === undefined ? 0 : DTYPE_BYTES[out.dtype];
  ints[at++] = out?.byteOffset ?? 0;
  for (let dim = 0; dim < 3; dim++) ints[at++] = (out?.strides[dim] ?? 0) * width;
  ints[at++] = lse?.byteOffset ?? 0;
  for (let dim = 0; dim < 2; dim++) ints[at++] = (lse?.strides[dim] ?? 0) * 4;
}
