// The GGUF format, version 3, as ggml's docs/gguf.md describes it: metadata, descriptions of tensors, then their
// elements, each tensor at a multiple of 32 bytes. Tensors are written as they come, never whole in memory.
import { closeSync, openSync, writeSync } from "node:fs";
import { type ElementType, encodedBytes, encodeElements, TYPE_IDS } from "./element-types.ts";

/** A value of the metadata, with its type. */
export type MetadataValue =
  | { readonly type: "u32" | "i32" | "f32"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: readonly number[] };

/** A tensor to be written. */
export interface GgufTensor {
  readonly name: string;
  /** The outermost dimension first, as elsewhere here; the format has the innermost first. */
  readonly shape: readonly number[];
  readonly type: ElementType;
  /** Its elements, row by row, in pieces of whole rows. */
  elements(): Iterable<Float32Array>;
}

const ALIGNMENT = 32;
const VALUE_IDS = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** Writes a file. @throws Error when a tensor gives more or fewer elements than its shape says */
export function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, MetadataValue>,
  tensors: readonly GgufTensor[],
): void {
  const header = new ByteWriter();
  header.text("GGUF");
  header.u32(3);
  header.u64(tensors.length);
  header.u64(metadata.size);
  for (const [key, value] of metadata) {
    header.string(key);
    writeValue(header, value);
  }
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    header.string(name);
    header.u32(shape.length);
    for (const size of shape.toReversed()) header.u64(size);
    header.u32(TYPE_IDS[type]);
    header.u64(offset);
    offset += aligned(encodedBytes(type, elementsOf(shape)));
  }
  const file = openSync(path, "w");
  try {
    const begin = header.bytes();
    writeAll(file, begin);
    writeAll(file, new Uint8Array(aligned(begin.length) - begin.length));
    for (const tensor of tensors) {
      let written = 0;
      for (const piece of tensor.elements()) {
        const bytes = encodeElements(tensor.type, piece);
        writeAll(file, bytes);
        written += bytes.length;
      }
      const expected = encodedBytes(tensor.type, elementsOf(tensor.shape));
      if (written !== expected) throw new Error(`${tensor.name} has ${written} bytes instead of ${expected}`);
      writeAll(file, new Uint8Array(aligned(written) - written));
    }
  } finally {
    closeSync(file);
  }
}

function writeValue(writer: ByteWriter, { type, value }: MetadataValue): void {
  switch (type) {
    case "strings":
      writer.u32(VALUE_IDS.array);
      writer.u32(VALUE_IDS.string);
      writer.u64(value.length);
      for (const text of value) writer.string(text);
      return;
    case "i32s":
      writer.u32(VALUE_IDS.array);
      writer.u32(VALUE_IDS.i32);
      writer.u64(value.length);
      for (const number of value) writer.u32(number);
      return;
    case "string":
      writer.u32(VALUE_IDS.string);
      writer.string(value);
      return;
    case "bool":
      writer.u32(VALUE_IDS.bool);
      writer.raw(Uint8Array.of(value ? 1 : 0));
      return;
    case "f32":
      writer.u32(VALUE_IDS.f32);
      writer.raw(new Uint8Array(Float32Array.of(value).buffer));
      return;
    default:
      writer.u32(VALUE_IDS[type]);
      writer.u32(value);
  }
}

/** Bytes that grow, little-endian. */
class ByteWriter {
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  raw(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#bytes.length) {
      const more = new Uint8Array(2 * length);
      more.set(this.#bytes);
      this.#bytes = more;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = length;
  }

  text(text: string): void {
    this.raw(new TextEncoder().encode(text));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  /** Also a negative i32. */
  u32(value: number): void {
    this.raw(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number): void {
    this.raw(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
