// Known blocks on their way out of the caches, and back into them.
import { ArgumentError, describe, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { BlockManager } from "./block-manager.ts";
import type { CachePart, KvCaches } from "./kv-caches.ts";

/** A full block of a text in a list of such. */
export interface PrefixBlock {
  /** Place in the list of the block that it continues, which comes before it; -1 for the first block of a text. */
  readonly parent: number;
  /** Its tokens: as many as a block holds over all ranks. */
  readonly tokens: readonly number[];
}

/** Blocks whose contents were put back. Nothing else may be done with the attention until one of the two is called. */
export interface PendingPrefixes {
  /** How many blocks were put back; the others were known already, or found no room. */
  readonly blocks: number;
  /** Makes them known. */
  readonly commit: () => void;
  /** Leaves everything as it was before. */
  readonly cancel: () => void;
}

/**
 * What takes the contents of blocks: called for each part with each block, all blocks of a part one after another.
 * @param part what of the block it is
 * @param index the block's place in the list
 * @param rows its contents [1, blockSize, kvHeads, dim], to be read within the call
 */
export type TakeBlock = (part: CachePart, index: number, rows: Tensor) => void;

/**
 * What gives the contents of blocks, in the order in which {@link TakeBlock} was called.
 * @param part what of the block is wanted
 * @param index the block's place in the list
 * @param rows what is to be filled with it [1, blockSize, kvHeads, dim]
 */
export type GiveBlock = (part: CachePart, index: number, rows: Tensor) => void;

/** All known blocks, as a list. */
export function listPrefixes(manager: BlockManager): PrefixBlock[] {
  const places = new Map<number, number>();
  return manager.listKnown().map(({ block, parent, tokens }, index) => {
    places.set(block, index);
    return { parent: parent === undefined ? -1 : (places.get(parent) ?? -1), tokens };
  });
}

/** Gives what the caches hold of known blocks, of the first `most` of {@link listPrefixes} in its order, to `take`. */
export async function takeBlocks(
  manager: BlockManager,
  caches: KvCaches,
  heap: SharedHeap,
  take: TakeBlock,
  most: number,
): Promise<void> {
  const blocks = manager.listKnown().slice(0, most);
  for (const part of caches.parts) {
    const rows = Tensor.empty(heap, part.dtype, [1, ...part.shape]);
    try {
      for (const [index, { block }] of blocks.entries()) {
        await caches.readBlock(part.name, block, rows);
        take(part, index, rows);
      }
    } finally {
      rows.free();
    }
  }
}

/**
 * Puts blocks back that are not known, as many as unknown free blocks can hold, in the order of the list.
 * @throws ArgumentError for a list that is none; what `give` throws, and HeapExhausted: nothing is held then
 */
export async function giveBlocks(
  manager: BlockManager,
  caches: KvCaches,
  heap: SharedHeap,
  blocks: readonly PrefixBlock[],
  give: GiveBlock,
): Promise<PendingPrefixes> {
  checkBlocks(blocks);
  const reserved = manager.reserveKnown(blocks);
  try {
    for (const part of caches.parts) {
      const rows = Tensor.empty(heap, part.dtype, [1, ...part.shape]);
      try {
        for (const { index, block } of reserved.blocks) {
          give(part, index, rows);
          await caches.writeBlock(part.name, block, rows);
        }
      } finally {
        rows.free();
      }
    }
  } catch (error) {
    reserved.cancel();
    throw error;
  }
  return { blocks: reserved.blocks.length, commit: reserved.commit, cancel: reserved.cancel };
}

function checkBlocks(blocks: readonly PrefixBlock[]): void {
  const operation = "DcpAttention.importPrefixes";
  if (!Array.isArray(blocks)) throw new ArgumentError(operation, "blocks", "a list of blocks", describe(blocks));
  for (const [index, block] of blocks.entries()) {
    if (typeof block !== "object" || block === null) {
      throw new ArgumentError(operation, `blocks[${index}]`, "an object with parent and tokens", describe(block));
    }
    const { parent } = block;
    if (Number.isInteger(parent) && parent >= -1 && parent < index) continue;
    throw new ArgumentError(operation, `blocks[${index}].parent`, `a place before it, or -1`, describe(parent));
  }
}
