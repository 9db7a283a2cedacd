// Reads GGUF files back, for the tests of what writes them: the format's parts as its description has them, in the
// order of a reader.
import { readFileSync } from "node:fs";

export interface ReadTensor {
  /** The outermost dimension first. */
  readonly shape: readonly number[];
  readonly typeId: number;
  readonly values: Float64Array;
}

export interface ReadGguf {
  readonly metadata: ReadonlyMap<string, unknown>;
  readonly tensors: ReadonlyMap<string, ReadTensor>;
}

/** @throws Error where the file is none */
export function readGguf(path: string): ReadGguf {
  const bytes = readFileSync(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (count: number): number => {
    at += count;
    return at - count;
  };
  const u32 = (): number => view.getUint32(take(4), true);
  const u64 = (): number => Number(view.getBigUint64(take(8), true));
  const string = (): string => {
    const length = u64();
    return bytes.toString("utf8", take(length), at);
  };
  const value = (type: number): unknown => {
    if (type === 4) return u32();
    if (type === 5) return view.getInt32(take(4), true);
    if (type === 6) return view.getFloat32(take(4), true);
    if (type === 7) return view.getUint8(take(1)) === 1;
    if (type === 8) return string();
    if (type !== 9) throw new Error(`a value of type ${type}`);
    const inner = u32();
    return Array.from({ length: u64() }, () => value(inner));
  };
  if (bytes.toString("latin1", take(4), at) !== "GGUF" || u32() !== 3) throw new Error("no GGUF of version 3");
  const [tensorCount, metadataCount] = [u64(), u64()];
  const metadata = new Map<string, unknown>();
  for (let index = 0; index < metadataCount; index++) metadata.set(string(), value(u32()));
  const described = Array.from({ length: tensorCount }, () => {
    const name = string();
    const shape = Array.from({ length: u32() }, u64).reverse();
    return { name, shape, typeId: u32(), offset: u64() };
  });
  const start = Math.ceil(at / 32) * 32;
  const tensors = new Map<string, ReadTensor>();
  for (const { name, shape, typeId, offset } of described) {
    if (offset % 32 !== 0) throw new Error(`${name} at ${offset}, no multiple of 32`);
    const count = shape.reduce((product, size) => product * size, 1);
    const values = Float64Array.from({ length: count }, (_, index) => element(view, start + offset, typeId, index));
    tensors.set(name, { shape, typeId, values });
  }
  return { metadata, tensors };
}

function element(view: DataView, start: number, typeId: number, index: number): number {
  if (typeId === 0) return view.getFloat32(start + 4 * index, true);
  if (typeId === 1) return view.getFloat16(start + 2 * index, true);
  if (typeId === 8) {
    const block = start + 34 * Math.floor(index / 32);
    return view.getFloat16(block, true) * view.getInt8(block + 2 + (index % 32));
  }
  if (typeId !== 30) throw new Error(`elements of type ${typeId}`);
  const word = new DataView(new ArrayBuffer(4));
  word.setUint16(2, view.getUint16(start + 2 * index, true), true);
  return word.getFloat32(0, true);
}
