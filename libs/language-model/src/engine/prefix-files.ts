// The file of each rank's known blocks: where it lies, what is in it, and whether it is whole.
import { type CachePart, type DcpAttention, kvWeightSum, type PrefixBlock } from "@lockstep/attention";
import {
  type Allocator,
  builtinModule,
  failureCode,
  LockstepError,
  SafetensorsFile,
  type StreamedTensor,
  Tensor,
} from "@lockstep/tensor";
import { PrefixStoreError } from "../errors.ts";
import { Sha256 } from "./sha256.ts";

/** Blocks: [blocks, 1 + tokens of a block], i32; first the place of the block before it (-1: none), then its tokens. */
export const BLOCKS = "blocks";
/** SHA-256 of all tensors before it, [32], u8. */
export const DIGEST = "digest";

/** What is used of `node:fs`. Declared here so that declarations type-check where Node's types are unknown. */
interface FileSystem {
  statSync(path: string): unknown;
  mkdirSync(path: string, options: { readonly recursive: boolean }): unknown;
}

/** The path of a rank's file in a folder. */
export function prefixFile(folder: string, rank: number): string {
  const name = `prefixes-rank-${rank}.safetensors`;
  return builtinModule<typeof import("node:path")>("node:path")?.join(folder, name) ?? `${folder}/${name}`;
}

/** Makes a folder, if it is not there. @throws PrefixStoreError */
export function makeFolder(folder: string): void {
  try {
    fileSystem(folder).mkdirSync(folder, { recursive: true });
  } catch (error) {
    if (error instanceof PrefixStoreError) throw error;
    throw new PrefixStoreError("unwritable", folder, "a folder that can be made", failureCode(error));
  }
}

/** Whether a file is there. @throws PrefixStoreError where that may not be known */
export function isThere(path: string): boolean {
  try {
    fileSystem(path).statSync(path);
    return true;
  } catch (error) {
    if (error instanceof PrefixStoreError) throw error;
    const reason = failureCode(error);
    if (reason === "none") return false;
    throw new PrefixStoreError("unreadable", path, "a readable file, or none", reason);
  }
}

function fileSystem(path: string): FileSystem {
  const found = builtinModule<FileSystem>("node:fs");
  if (found !== undefined) return found;
  throw new PrefixStoreError("unsupported", path, "a file system", "none, as in browsers");
}

/** What a file holds of each block. */
export interface FileShape {
  /** Tokens of a block over all ranks. */
  readonly blockTokens: number;
  readonly parts: readonly CachePart[];
}

/** What a rank's own file holds. */
export function ownShape(attention: DcpAttention): FileShape {
  const blockTokens = Number(attention.cacheLayout.blockSize) * kvWeightSum(attention.shard);
  return { blockTokens, parts: attention.cacheParts };
}

/** The tensors of the file of so many blocks, in their order. */
export function prefixTensors({ blockTokens, parts }: FileShape, blocks: number): StreamedTensor[] {
  return [
    { name: BLOCKS, dtype: "i32", shape: [blocks, 1 + blockTokens] },
    ...parts.map(({ name, dtype, shape }) => ({ name, dtype, shape: [blocks, ...shape] })),
    { name: DIGEST, dtype: "u8", shape: [32] },
  ];
}

/** What a file's header says, but for the save. @throws PrefixStoreError */
export function headerOf(path: string): Readonly<Record<string, string>> {
  const file = asDamage(path, () => SafetensorsFile.open(path));
  const { save: _, ...described } = file.metadata;
  file.close();
  return described;
}

/** A rank's file that is open, and whole. */
export interface PrefixFile extends Disposable {
  readonly blocks: readonly PrefixBlock[];
  /** What is the same in all files of a save: SHA-256 of its id and its blocks. */
  readonly save: Uint8Array;
  /** Reads what it holds of a part of a block. @throws PrefixStoreError */
  read(part: CachePart, index: number, rows: Tensor): void;
}

/**
 * Opens a file and checks that it is what is expected, to its last byte; reads all of it.
 * @param expected its metadata, but for the save
 * @throws PrefixStoreError
 */
export function openPrefixFile(
  path: string,
  shape: FileShape,
  expected: Readonly<Record<string, string>>,
  heap: Allocator,
): PrefixFile {
  const file = asDamage(path, () => SafetensorsFile.open(path));
  try {
    return asDamage(path, () => {
      const { save: id, ...described } = file.metadata;
      checkMetadata(path, described, expected);
      if (id === undefined) throw new PrefixStoreError("damaged", path, "the id of a save", "none");
      const count = checkTensors(path, file, shape);
      const { blocks, contents } = readBlocks(path, file, shape, count, heap);
      const save = new Sha256(path).add(new TextEncoder().encode(id)).add(contents).digest();
      return {
        blocks,
        save,
        read: (part, index, rows) =>
          asDamage(path, () => file.readInto(part.name, rows, { rows: { start: index, end: index + 1 } })),
        [Symbol.dispose]: () => file.close(),
      };
    });
  } catch (error) {
    file.close();
    throw error;
  }
}

/** What is refused about a file's bytes is damage. */
function asDamage<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof PrefixStoreError || !(error instanceof LockstepError)) throw error;
    if (error._tag !== "SafetensorsError") throw error;
    throw new PrefixStoreError("damaged", path, "a whole file of saved prefixes", error.message);
  }
}

/** Throws PrefixStoreError, which names all that differs, unless the metadata is as expected. */
export function checkMetadata(
  path: string,
  described: Readonly<Record<string, string>>,
  expected: Readonly<Record<string, string>>,
): void {
  const names = [...new Set([...Object.keys(expected), ...Object.keys(described)])];
  const differing = names.filter((name) => described[name] !== expected[name]);
  const list = (of: Readonly<Record<string, string>>): string =>
    differing.map((name) => `${name} ${of[name] ?? "not given"}`).join(", ");
  if (differing.length > 0) {
    const isOther = differing.some((name) => name === "checkpoint" || name.startsWith("computed."));
    throw new PrefixStoreError(isOther ? "checkpoint" : "layout", path, list(expected), list(described));
  }
}

/** How many blocks the file has. @throws PrefixStoreError unless it has the tensors that it should */
function checkTensors(path: string, file: SafetensorsFile, shape: FileShape): number {
  const count = file.has(BLOCKS) ? (file.info(BLOCKS).shape[0] ?? 0) : 0;
  const described = (tensors: readonly Omit<StreamedTensor, "name">[], names: readonly string[]): string =>
    tensors.map(({ dtype, shape }, index) => `${names[index]} ${dtype} [${shape}]`).join(", ");
  const wanted = prefixTensors(shape, count);
  const expected = described(
    wanted,
    wanted.map(({ name }) => name),
  );
  const { names } = file;
  const found = described(
    names.map((name) => file.info(name)),
    names,
  );
  if (found === expected) return count;
  throw new PrefixStoreError("damaged", path, `the tensors ${expected}`, found);
}

/** Reads all tensors, row by row. @throws PrefixStoreError unless the digest is theirs */
function readBlocks(
  path: string,
  file: SafetensorsFile,
  fileShape: FileShape,
  count: number,
  heap: Allocator,
): { blocks: PrefixBlock[]; contents: Uint8Array } {
  const digest = new Sha256(path);
  const contents = new Sha256(path);
  const blocks: PrefixBlock[] = [];
  for (const { name, dtype, shape } of prefixTensors(fileShape, count)) {
    if (name === DIGEST) continue;
    const row = Tensor.empty(heap, dtype, [1, ...shape.slice(1)]);
    try {
      for (let index = 0; index < count; index++) {
        file.readInto(name, row, { rows: { start: index, end: index + 1 } });
        const bytes = row.bytes.slice();
        digest.add(bytes);
        if (name !== BLOCKS) continue;
        contents.add(bytes);
        const [parent = -1, ...tokens] = row.i32;
        blocks.push({ parent, tokens });
      }
    } finally {
      row.free();
    }
  }
  const stored = file.readNumbers(DIGEST);
  if (digest.digest().every((byte, at) => byte === stored[at])) return { blocks, contents: contents.digest() };
  throw new PrefixStoreError("damaged", path, "the bytes that were written", "others: their digest differs");
}
