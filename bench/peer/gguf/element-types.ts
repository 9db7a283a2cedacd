// Element types of GGUF tensors, and how f32 numbers are turned into them.

/** `q8_0`: blocks of 32 numbers of a row, each block an f16 scale and 32 numbers in 8 bits. */
export type ElementType = "f32" | "f16" | "bf16" | "q8_0";

export const ELEMENT_TYPES: readonly ElementType[] = ["f32", "f16", "bf16", "q8_0"];

/** As ggml numbers them. */
export const TYPE_IDS: Readonly<Record<ElementType, number>> = { f32: 0, f16: 1, q8_0: 8, bf16: 30 };

/** What `general.file_type` says of a file whose matrices are of a type. */
export const FILE_TYPES: Readonly<Record<ElementType, number>> = { f32: 0, f16: 1, q8_0: 7, bf16: 32 };

/** Numbers of a block of q8_0. */
export const BLOCK = 32;
const BLOCK_BYTES = 2 + BLOCK;

/** Bytes that so many elements take. */
export function encodedBytes(type: ElementType, count: number): number {
  switch (type) {
    case "f32":
      return 4 * count;
    case "f16":
    case "bf16":
      return 2 * count;
    case "q8_0":
      return (count / BLOCK) * BLOCK_BYTES;
  }
}

/** Numbers in a type: rounded to nearest, ties to even, but q8_0 as ggml's reference rounds (ties away from 0). */
export function encodeElements(type: ElementType, values: Float32Array): Uint8Array {
  switch (type) {
    case "f32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "f16":
      return new Uint8Array(new Float16Array(values).buffer);
    case "bf16":
      return encodeBf16(values);
    case "q8_0":
      return encodeQ8(values);
  }
}

function encodeBf16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let index = 0; index < halves.length; index++) {
    const word = bits[index] ?? 0;
    halves[index] = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(halves.buffer);
}

function encodeQ8(values: Float32Array): Uint8Array {
  const blocks = values.length / BLOCK;
  if (!Number.isInteger(blocks)) throw new Error(`q8_0 takes multiples of ${BLOCK} numbers, not ${values.length}`);
  const bytes = new Uint8Array(blocks * BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    let most = 0;
    for (let index = 0; index < BLOCK; index++) {
      most = Math.max(most, Math.abs(values[block * BLOCK + index] ?? 0));
    }
    const scale = Math.fround(most / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    view.setFloat16(block * BLOCK_BYTES, scale, true);
    for (let index = 0; index < BLOCK; index++) {
      const scaled = Math.fround((values[block * BLOCK + index] ?? 0) * inverse);
      view.setInt8(block * BLOCK_BYTES + 2 + index, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
    }
  }
  return bytes;
}
