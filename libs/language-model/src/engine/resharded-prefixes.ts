// Known prefixes that a world saved, as a rank of another world, or of another layout, stores them.
import {
  type CachePart,
  type DcpAttention,
  positionsOfBlock,
  regroupPrefixes,
  type RegroupedBlock,
  type RowPart,
  type RowRun,
  rowRuns,
} from "@lockstep/attention";
import { type Allocator, Tensor } from "@lockstep/tensor";
import { PrefixStoreError } from "../errors.ts";
import { type HeadRun, headRuns } from "../generation/kv-head-runs.ts";
import {
  checkMetadata,
  type FileShape,
  headerOf,
  isThere,
  openPrefixFile,
  type PrefixFile,
  prefixFile,
} from "./prefix-files.ts";
import { type SavedLayout, savedLayout, withoutDeal } from "./saved-layout.ts";

type Metadata = Readonly<Record<string, string>>;

/** A file of a save whose header has been read. */
interface SavedFile {
  readonly path: string;
  readonly metadata: Metadata;
  readonly layout: SavedLayout;
}

/**
 * Opens what this rank needs of a save of another layout: all files of ranks that stored KV heads of its own. They are
 * read to their ends, digests included, before this returns. At a time a block's part of each file is in memory.
 * @param own header of this rank's own file, if it had one
 * @param world ranks of the world that saved
 * @throws PrefixStoreError when a file is missing or damaged, is of another checkpoint or stores other rows, or is of
 *   another save than the others
 */
export function openResharded(
  folder: string,
  attention: DcpAttention,
  own: Metadata,
  world: number,
  heap: Allocator,
): PrefixFile {
  const target = savedLayout(folder, own);
  const saved = savedFiles(folder, own, world);
  const { needed, runs } = filesFor(folder, target, saved);
  const files: PrefixFile[] = [];
  try {
    for (const { path, metadata, layout } of needed) {
      files.push(openPrefixFile(path, shapeOf(attention.rowParts, layout), metadata, heap));
    }
    const [first] = files;
    if (first === undefined) throw new RangeError("a save has a file at least");
    const other = files.findIndex(({ save }) => !save.every((byte, at) => byte === first.save[at]));
    if (other >= 0) throw mixed(folder, needed[other]?.layout.rank ?? -1);
    const deal = needed[0]?.layout.deal ?? target.deal;
    const sizes = [positionsOfBlock(deal), positionsOfBlock(target.deal)] as const;
    const { blocks } = regroupPrefixes(first.blocks, ...sizes);
    const reader = new ReshardReader(files, needed, runs, blocks, target, heap);
    return {
      blocks,
      save: first.save,
      read: (part, index, rows) => reader.read(part, index, rows),
      [Symbol.dispose]() {
        reader[Symbol.dispose]();
        for (const file of files) file[Symbol.dispose]();
      },
    };
  } catch (error) {
    for (const file of files) file[Symbol.dispose]();
    throw error;
  }
}

/** Headers of all files of a save. */
function savedFiles(folder: string, own: Metadata, world: number): SavedFile[] {
  return Array.from({ length: world }, (_, rank) => {
    const path = prefixFile(folder, rank);
    if (!isThere(path)) {
      throw new PrefixStoreError("missing", folder, `files of all ${world} ranks that saved`, `none of rank ${rank}`);
    }
    const metadata = headerOf(path);
    checkMetadata(path, withoutDeal(metadata), withoutDeal(own));
    const layout = savedLayout(path, metadata);
    if (layout.rank !== rank) {
      throw new PrefixStoreError("layout", path, `layout.rank ${rank}`, `layout.rank ${layout.rank}`);
    }
    if (layout.world !== world) throw mixed(folder, rank);
    return { path, metadata, layout };
  });
}

/** The files that have KV heads of a rank, of each shard, and which heads to take from which. */
function filesFor(
  folder: string,
  target: SavedLayout,
  saved: readonly SavedFile[],
): { readonly needed: readonly SavedFile[]; readonly runs: readonly (readonly HeadRun[])[] } {
  const needed: SavedFile[] = [];
  const [first] = saved;
  const shards = first?.layout.deal.count ?? 0;
  const deal = JSON.stringify(first?.layout.deal);
  const different = saved.findIndex(({ layout }) => JSON.stringify(layout.deal) !== deal);
  if (different >= 0) throw mixed(folder, different);
  const sources = saved.map(({ layout: { shard, firstKvHead, kvHeads } }) => {
    return { shard: shard.index, heads: { start: firstKvHead, end: firstKvHead + kvHeads } };
  });
  const wanted = { start: target.firstKvHead, end: target.firstKvHead + target.kvHeads };
  const runs = Array.from({ length: shards }, (_, shard) => {
    const found = headRuns(sources, shard, wanted);
    if (typeof found === "number") {
      throw new PrefixStoreError("layout", folder, `KV head ${found} of shard ${shard} in a file`, "it in none");
    }
    return found.flatMap((run) => {
      const file = saved[run.source];
      if (file === undefined) return [];
      if (!needed.includes(file)) needed.push(file);
      return { ...run, source: needed.indexOf(file) };
    });
  });
  return { needed, runs };
}

/** What a file has to hold. */
function shapeOf(parts: readonly RowPart[], { deal, ownBlockSize, kvHeads }: SavedLayout): FileShape {
  const dims = (shape: readonly number[]): readonly number[] => [ownBlockSize, kvHeads, ...shape.slice(1)];
  return {
    blockTokens: positionsOfBlock(deal),
    parts: ownBlockSize === 0 ? [] : parts.map(({ name, dtype, shape }) => ({ name, dtype, shape: dims(shape) })),
  };
}

/** Puts blocks of this rank together from rows of files. */
class ReshardReader implements Disposable {
  readonly #files: readonly PrefixFile[];
  readonly #needed: readonly SavedFile[];
  readonly #heads: readonly (readonly HeadRun[])[];
  readonly #blocks: readonly RegroupedBlock[];
  readonly #target: SavedLayout;
  readonly #heap: Allocator;
  /** What was read last of each file. */
  readonly #last = new Map<number, { readonly what: string; readonly rows: Tensor }>();

  constructor(
    files: readonly PrefixFile[],
    needed: readonly SavedFile[],
    heads: readonly (readonly HeadRun[])[],
    blocks: readonly RegroupedBlock[],
    target: SavedLayout,
    heap: Allocator,
  ) {
    this.#files = files;
    this.#needed = needed;
    this.#heads = heads;
    this.#blocks = blocks;
    this.#target = target;
    this.#heap = heap;
  }

  /** Fills `rows` [1, blockSize, kvHeads, dim] with a part of a block. */
  read(part: CachePart, index: number, rows: Tensor): void {
    const block = this.#blocks[index];
    const from = this.#needed[0]?.layout.deal;
    if (block === undefined || from === undefined) throw new RangeError(`there is no block ${index}`);
    const { deal, shard } = this.#target;
    const { start, sources } = block;
    const move = { start, end: start + positionsOfBlock(deal), sources, target: 0 };
    for (const run of rowRuns(from, deal, [move])) if (run.to === shard.index) this.#copy(part, run, rows);
  }

  #copy(part: CachePart, { from, fromSlot, toSlot, count }: RowRun, rows: Tensor): void {
    for (const { source: file, inSource, inRank, count: heads } of this.#heads[from] ?? []) {
      const size = this.#needed[file]?.layout.ownBlockSize ?? 1;
      for (let at = 0; at < count; ) {
        const [block, offset] = [Math.floor((fromSlot + at) / size), (fromSlot + at) % size];
        const more = Math.min(count - at, size - offset);
        const source = this.#blockOf(part, file, block).slice(1, offset, offset + more);
        rows
          .slice(1, toSlot + at, toSlot + at + more)
          .slice(2, inRank, inRank + heads)
          .copyFrom(source.slice(2, inSource, inSource + heads));
        at += more;
      }
    }
  }

  /** A part of a block of a file, which is read once while it is asked for again and again. */
  #blockOf(part: CachePart, file: number, block: number): Tensor {
    const what = `${part.name} ${block}`;
    const last = this.#last.get(file);
    if (last?.what === what) return last.rows;
    const { ownBlockSize = 0, kvHeads = 0 } = this.#needed[file]?.layout ?? {};
    last?.rows.free();
    this.#last.delete(file);
    const rows = Tensor.empty(this.#heap, part.dtype, [1, ownBlockSize, kvHeads, ...part.shape.slice(2)]);
    this.#last.set(file, { what: "", rows });
    this.#files[file]?.read(part, block, rows);
    this.#last.set(file, { what, rows });
    return rows;
  }

  [Symbol.dispose](): void {
    for (const { rows } of this.#last.values()) rows.free();
    this.#last.clear();
  }
}

function mixed(folder: string, rank: number): PrefixStoreError {
  return new PrefixStoreError("mixed", folder, "files of one save", `that rank ${rank}'s is of another one`);
}
