// Known prefixes on disk, so that a server that is started again need not compute its prompts again.
import type { DcpAttention, PendingPrefixes } from "@lockstep/attention";
import type { ProcessGroup } from "@lockstep/dist-groups";
import {
  ArgumentError,
  describe,
  DTYPE_BYTES,
  elementCount,
  LockstepError,
  SafetensorsStream,
  type SharedHeap,
  Tensor,
} from "@lockstep/tensor";
import { PrefixStoreError } from "../errors.ts";
import {
  DIGEST,
  headerOf,
  isThere,
  makeFolder,
  openPrefixFile,
  ownShape,
  type PrefixFile,
  prefixFile,
  prefixTensors,
} from "./prefix-files.ts";
import { openResharded } from "./resharded-prefixes.ts";
import { dealsAlike, savedLayout } from "./saved-layout.ts";
import { Sha256 } from "./sha256.ts";

/** Changes with what is in the files. */
const FORMAT = "lockstep-prefixes-2";

/** Whose prefixes are saved and loaded, and where. */
export interface PrefixStore {
  /** This rank's attention, opened with a prefixCache. */
  readonly attention: DcpAttention;
  /** All ranks that serve a model together: each has a file. */
  readonly group: ProcessGroup;
  /** Where a row of the cache lies meanwhile, and what ranks tell each other. */
  readonly heap: SharedHeap;
  /** The folder of the files. Made when prefixes are saved. */
  readonly folder: string;
  /** Which weights keys and values are computed with: `checkpointFingerprint`. */
  readonly checkpoint: string;
  /** The first of the model's KV heads that this rank stores. */
  readonly firstKvHead: number;
  /** What else decides what keys and values are, by names: `weights` in int8, the backend. */
  readonly computed: Readonly<Record<string, string | number | boolean>>;
  /** Most bytes of each rank's file, the same on every rank; those of its header come on top. Default: no limit. */
  readonly mostBytes?: number;
  /** Deadline of each exchange between ranks, which wait for the slowest disk. Default: the group's. */
  readonly deadlineMs?: number;
}

/** What was saved or loaded. */
export interface StoredPrefixes {
  /** Blocks in the files; loading may find room for some of them only. */
  readonly blocks: number;
  /** Of those, the ones that were written, or put into the cache. */
  readonly moved: number;
}

/**
 * Writes what this rank stores of all known blocks to a file `prefixes-rank-R.safetensors` of the folder: tensors of
 * the caches' dtypes, a row for each block; parents and tokens of the blocks; a digest; and in the header what they
 * were computed with, how they are laid out, and the save's id. Where `mostBytes` does not suffice for all, those used
 * last are saved, with all that they continue. The files of the save before are replaced when those of all
 * ranks are complete. Every rank calls this together, between steps.
 * @param save the same on every rank, and another one for each save: `crypto.randomUUID()`
 * @throws PrefixStoreError on every rank when one could not write; the files of the save before are there still, unless
 *   the last step, moving files to their places, failed: then loading refuses them
 */
export async function savePrefixes(store: PrefixStore, save: string): Promise<StoredPrefixes> {
  if (typeof save !== "string" || save === "" || !save.isWellFormed()) {
    throw new ArgumentError("savePrefixes", "save", "an id", describe(save));
  }
  let stream: SafetensorsStream | undefined;
  try {
    const mostBlocks = agreedBlocks(store);
    let blocks = 0;
    const written = await attempted(async () => {
      makeFolder(store.folder);
      const list = store.attention.listPrefixes().slice(0, mostBlocks);
      blocks = list.length;
      stream = begin(store, save, blocks);
      await write(store, stream, list);
    });
    agree(store, written, new Uint8Array(32));
    agree(store, await attempted(async () => stream?.publish()), new Uint8Array(32));
    return { blocks, moved: blocks };
  } finally {
    stream?.close();
  }
}

/**
 * Puts what was saved back into the cache, as many blocks as find room, those used last first. Every rank calls this
 * together, between steps. All files are read to their end, and all ranks have found theirs to be fit, before the first
 * block is touched; blocks become known when all ranks have theirs.
 *
 * A world of another size or layout than the one that saved (ranks, DCP, interleave, weights, block size, how KV heads
 * are spread) reads what it needs of all files, a block at a time: they must lie in one folder that all ranks see. Texts
 * are cut into full blocks of its own size, and what fills none is left out.
 * @returns undefined when no rank has a file
 * @throws PrefixStoreError on every rank when a file is damaged or cut, missing, of another checkpoint, of caches that
 *   store other rows of a token, or of another save than the others': the cache is as it was
 */
export async function loadPrefixes(store: PrefixStore): Promise<StoredPrefixes | undefined> {
  const { attention } = store;
  let file: PrefixFile | undefined;
  let pending: PendingPrefixes | undefined;
  try {
    const opened = await attempted(async () => {
      file = openSaved(store);
    });
    if (!agree(store, opened, file?.save)) return undefined;
    const blocks = file?.blocks ?? [];
    const filled = await attempted(async () => {
      pending = await attention.importPrefixes(blocks, (part, index, rows) => file?.read(part, index, rows));
    });
    agree(store, filled, new Uint8Array(32));
    pending?.commit();
    return { blocks: blocks.length, moved: pending?.blocks ?? 0 };
  } finally {
    pending?.cancel();
    file?.[Symbol.dispose]();
  }
}

/** What was saved, as this rank stores it; undefined when it has no file. @throws PrefixStoreError */
function openSaved(store: PrefixStore): PrefixFile | undefined {
  const { attention, folder, group, heap } = store;
  const own = metadataOf(store);
  const [first, path] = [prefixFile(folder, 0), prefixFile(folder, group.rank)];
  // Where ranks of several machines have a folder each, all but one find no file of rank 0.
  const saved = isThere(first) ? headerOf(first) : own;
  if (!dealsAlike(saved, own)) return openResharded(folder, attention, own, savedLayout(first, saved).world, heap);
  return isThere(path) ? openPrefixFile(path, ownShape(attention), own, heap) : undefined;
}

/** Blocks that fit every rank's file: what a rank keeps of a block may take more bytes than on another. */
function agreedBlocks({ attention, group, heap, mostBytes, deadlineMs }: PrefixStore): number {
  if (mostBytes === undefined) return Number.MAX_SAFE_INTEGER;
  const bytes = prefixTensors(ownShape(attention), 1)
    .filter(({ name }) => name !== DIGEST)
    .reduce((sum, { dtype, shape }) => sum + DTYPE_BYTES[dtype] * elementCount(shape), 0);
  const most = Math.min(2 ** 31 - 1, Math.floor(mostBytes / bytes));
  const fit = Tensor.from(heap, "i32", [1], [most]);
  try {
    group.allReduce(fit, fit, { op: "min", ...(deadlineMs === undefined ? {} : { deadlineMs }) });
    return fit.i32[0] ?? 0;
  } finally {
    fit.free();
  }
}

/** The header of this rank's file, but for the save: all of it must be the same to load it. */
function metadataOf({ attention, group, checkpoint, computed, firstKvHead }: PrefixStore): Record<string, string> {
  const named = (prefix: string, fields: Readonly<Record<string, string | number | boolean>>) =>
    Object.entries(fields).map(([name, value]) => [`${prefix}.${name}`, String(value)] as const);
  const layout = { ...attention.cacheLayout, world: group.size, rank: group.rank, firstKvHead };
  return {
    format: FORMAT,
    checkpoint,
    ...Object.fromEntries([...named("computed", computed), ...named("layout", layout)]),
  };
}

function begin(store: PrefixStore, save: string, blocks: number): SafetensorsStream {
  const path = prefixFile(store.folder, store.group.rank);
  return SafetensorsStream.create(path, prefixTensors(ownShape(store.attention), blocks), {
    ...metadataOf(store),
    save,
  });
}

async function write(
  { attention, folder }: PrefixStore,
  stream: SafetensorsStream,
  list: ReturnType<DcpAttention["listPrefixes"]>,
): Promise<void> {
  const digest = new Sha256(folder);
  const put = (bytes: Uint8Array): void => {
    const own = bytes.slice();
    digest.add(own);
    stream.write(own);
  };
  for (const { parent, tokens } of list) put(new Uint8Array(Int32Array.of(parent, ...tokens).buffer));
  await attention.exportPrefixes((_part, _index, rows) => put(rows.bytes), list.length);
  stream.write(digest.digest());
  stream.complete();
}

/** What was thrown, if anything was. */
async function attempted(act: () => Promise<unknown>): Promise<Error | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** What a rank tells the others about its file. */
const STATUS = { fit: 0, failed: 1, none: 2 } as const;

/**
 * Returns when every rank is ready: true, or false when no rank has a file.
 * @param failure why this rank is not
 * @param save what the files of one save have in common, 32 bytes; undefined when this rank has no file
 * @throws this rank's failure; PrefixStoreError when another rank failed, has no file, or has one of another save
 */
function agree(store: PrefixStore, failure: Error | undefined, save: Uint8Array | undefined): boolean {
  const { folder, group } = store;
  const status = failure !== undefined ? STATUS.failed : save === undefined ? STATUS.none : STATUS.fit;
  const words = new Int32Array((save ?? new Uint8Array(32)).slice().buffer);
  const rows = gathered(store, [status, ...words]);
  if (failure !== undefined) throw typed(failure, folder);
  const failed = rows.findIndex(([other]) => other === STATUS.failed);
  if (failed >= 0) {
    throw new PrefixStoreError(
      "peer",
      folder,
      "files that every rank can use",
      `that rank ${failed} failed: see its error`,
    );
  }
  const absent = rows.flatMap(([other], rank) => (other === STATUS.none ? [rank] : []));
  if (absent.length === group.size) return false;
  if (absent.length > 0) {
    throw new PrefixStoreError("missing", folder, "a file of every rank, or none", `none of rank ${absent.join(", ")}`);
  }
  const [first = []] = rows;
  const other = rows.findIndex((row) => row.some((word, at) => word !== first[at]));
  if (other < 0) return true;
  throw new PrefixStoreError(
    "mixed",
    folder,
    "files of one save",
    `that rank ${other}'s is of another one than rank 0's`,
  );
}

/** Failures of the file system and of the file are the store's. */
function typed(failure: Error, folder: string): Error {
  if (!(failure instanceof LockstepError) || failure._tag !== "SafetensorsError") return failure;
  return new PrefixStoreError("unwritable", folder, "files that can be written", failure.message);
}

/** Whole numbers of every rank, in rank order. */
function gathered({ group, heap, deadlineMs }: PrefixStore, row: readonly number[]): number[][] {
  const own = Tensor.from(heap, "i32", [1, row.length], row);
  const all = Tensor.empty(heap, "i32", [group.size, row.length]);
  try {
    group.allGather(own, all, { dim: 0, deadlineMs });
    return Array.from({ length: group.size }, (_, rank) => [...all.select(0, rank).toNumbers()]);
  } finally {
    all.free();
    own.free();
  }
}
