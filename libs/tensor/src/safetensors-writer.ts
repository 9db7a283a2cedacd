import { failureCode, fileSystem } from "./byte-source.ts";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType } from "./dtype.ts";
import { ArgumentError, SafetensorsError } from "./errors.ts";
import { DTYPE_OF_NAME } from "./safetensors-header.ts";
import { elementCount } from "./shape.ts";
import { Tensor } from "./tensor.ts";

const NAME_OF_DTYPE = new Map([...DTYPE_OF_NAME].map(([name, dtype]) => [dtype, name]));

type NamedTensor = readonly [name: string, tensor: Tensor];

/** What is to be written. @throws ArgumentError unless it is pairs */
function namedTensors(operation: string, tensors: Iterable<NamedTensor>): readonly NamedTensor[] {
  const isIterable = typeof tensors === "object" && tensors !== null && typeof tensors[Symbol.iterator] === "function";
  const pairs = isIterable ? [...tensors] : undefined;
  if (pairs?.every((pair) => Array.isArray(pair)) === true) return pairs;
  throw new ArgumentError(operation, "tensors", "a list of pairs of a name and a tensor", describe(tensors));
}

/**
 * Writes tensors (any strides) and string metadata as a safetensors file, replacing an existing one. A name may stand
 * once, and `__metadata__` is none. @throws ArgumentError before anything is written; SafetensorsError when the file
 * cannot be written, or where there is no file system: see {@link encodeSafetensors}
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [name: string, tensor: Tensor]>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  if (typeof path !== "string") throw new ArgumentError("writeSafetensors", "path", "a path", describe(path));
  const file = encoded("writeSafetensors", tensors, metadata);
  const { writeFileSync } = fileSystem(path, "Keep the bytes that encodeSafetensors makes.");
  try {
    writeFileSync(path, file);
  } catch (error) {
    throw new SafetensorsError(path, "a place that can be written", failureCode(error), "");
  }
}

/** The bytes of the file that {@link writeSafetensors} writes. @throws ArgumentError */
export function encodeSafetensors(
  tensors: Iterable<readonly [name: string, tensor: Tensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  return encoded("encodeSafetensors", tensors, metadata);
}

function encoded(
  operation: string,
  tensors: Iterable<NamedTensor>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  checkMetadata(operation, metadata);
  const pairs = namedTensors(operation, tensors);
  const names = new Set<string>();
  for (const [name, tensor] of pairs) {
    checkName(operation, name, names);
    names.add(name);
    if (!(tensor instanceof Tensor)) {
      throw new ArgumentError(operation, `tensors ${describe(name)}`, "a tensor", describe(tensor));
    }
    tensor.assertUsable(operation, `tensors ${describe(name)}`);
  }
  const listed = pairs.map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const { head, bodyBytes } = encodeHeader(operation, listed, metadata);
  const file = new Uint8Array(head.length + bodyBytes);
  file.set(head);
  let at = head.length;
  for (const [, tensor] of pairs) {
    const body = rawBytes(tensor);
    file.set(body, at);
    at += body.length;
  }
  return file;
}

/**
 * The bytes before the tensors' own, and how many bytes those take, one after another in the order of the list.
 * @throws ArgumentError for names and metadata that a file cannot have
 */
export function encodeHeader(
  operation: string,
  tensors: readonly { readonly name: string; readonly dtype: DType; readonly shape: readonly number[] }[],
  metadata: Readonly<Record<string, string>>,
): { readonly head: Uint8Array<ArrayBuffer>; readonly bodyBytes: number } {
  checkMetadata(operation, metadata);
  // Names such as __proto__ would be lost as properties that are assigned.
  const header = new Map<string, unknown>([["__metadata__", metadata]]);
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    checkName(operation, name, header);
    const end = offset + elementCount(shape) * DTYPE_BYTES[dtype];
    header.set(name, { dtype: NAME_OF_DTYPE.get(dtype), shape, data_offsets: [offset, end] });
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const padded = Math.ceil(json.length / 8) * 8;
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(json, 8);
  return { head, bodyBytes: offset };
}

function checkName(operation: string, name: string, used: { has(name: string): boolean }): void {
  const argument = "tensors";
  if (typeof name !== "string" || !name.isWellFormed()) {
    throw new ArgumentError(operation, argument, "named by well-formed text", describe(name));
  }
  if (name === "__metadata__") {
    throw new ArgumentError(operation, argument, "named otherwise: the metadata has that name", describe(name));
  }
  if (used.has(name)) throw new ArgumentError(operation, argument, "named once each", `${describe(name)} twice`);
}

function checkMetadata(operation: string, metadata: Readonly<Record<string, string>>): void {
  if (typeof metadata !== "object" || metadata === null) {
    throw new ArgumentError(operation, "metadata", "strings by name", describe(metadata));
  }
  for (const [key, text] of Object.entries(metadata)) {
    if (typeof text === "string" && text.isWellFormed() && key.isWellFormed()) continue;
    throw new ArgumentError(operation, `metadata ${describe(key)}`, "well-formed text", describe(text));
  }
}

function rawBytes(tensor: Tensor): Uint8Array {
  if (tensor.isContiguous) return tensor.bytes;
  const width = DTYPE_BYTES[tensor.dtype];
  const packed = new Uint8Array(tensor.byteLength);
  const view = new Uint8Array(tensor.heap.buffer);
  const walk = (dim: number, from: number, to: number): void => {
    if (dim === tensor.rank) {
      packed.set(view.subarray(from, from + width), to);
      return;
    }
    const inner = elementCount(tensor.shape.slice(dim + 1)) * width;
    for (let index = 0; index < tensor.dim(dim); index++) {
      walk(dim + 1, from + index * tensor.stride(dim) * width, to + index * inner);
    }
  };
  if (tensor.size > 0) walk(0, tensor.byteOffset, 0);
  return packed;
}
