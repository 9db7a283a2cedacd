// Rows of a context, read and written by whoever carries them to another world.
import type { Completion } from "@lockstep/kernels";
import { ArgumentError, describe, type Tensor } from "@lockstep/tensor";
import type { ContextImage } from "../kv/context-image.ts";
import { positionsOfBlock } from "./kv-layout.ts";
import { placeIn } from "./layout-agreement.ts";
import type { ContextPart } from "./move-context.ts";

/** Reads rows of a part of the cache: those of the slots, in their order. */
export function readRows(
  { options, caches }: ContextPart,
  part: string,
  slots: readonly number[],
  rows: Tensor,
): Completion {
  return options.backend.gatherKvCache({ cache: caches.part(part), slots, rows });
}

/** Writes them. */
export function writeRows(
  { options, caches }: ContextPart,
  part: string,
  slots: readonly number[],
  rows: Tensor,
): Completion {
  if (slots.length === 0) return undefined;
  return options.backend.writeKvCache({ key: rows, slotMapping: slots, keyCache: caches.part(part) });
}

/** Whether a part of a context stores nothing, and knows nothing. */
export function isUntouched({ sequences }: ContextPart): boolean {
  const { sequences: live, known } = sequences.image;
  return live.length === 0 && known.length === 0;
}

/**
 * Takes over who holds which blocks, where there is nothing yet.
 * @throws ArgumentError for an image that these caches cannot have
 */
export function adoptImage(part: ContextPart, image: ContextImage): void {
  const { layout, numBlocks } = placeIn(part.options);
  checkContextImage("DcpAttention.adoptContext", image, positionsOfBlock(layout), numBlocks);
  part.sequences.adopt(image);
}

/** @throws ArgumentError unless caches of so many blocks, of so many positions each, can have what an image says */
export function checkContextImage(operation: string, image: ContextImage, positions: number, numBlocks: number): void {
  const fail = (argument: string, expected: string, received: unknown): never => {
    throw new ArgumentError(operation, argument, expected, describe(received));
  };
  const isCount = (value: unknown): boolean => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
  if (typeof image !== "object" || image === null) fail("image", "a context image", image);
  const { nextSequence, sequences, known }: ContextImage = image;
  if (!isCount(nextSequence)) fail("image.nextSequence", "an id", nextSequence);
  if (!Array.isArray(sequences)) fail("image.sequences", "a list", sequences);
  if (!Array.isArray(known)) fail("image.known", "a list", known);
  const places = new Map<number, number | undefined>();
  for (const [at, { block, parent, tokens }] of known.entries()) {
    const name = `image.known[${at}]`;
    if (places.has(block)) fail(`${name}.block`, "a block that is named once", block);
    if (parent !== undefined && !places.has(parent)) fail(`${name}.parent`, "a known block before it", parent);
    if (tokens.length !== positions || !tokens.every(isCount)) {
      fail(`${name}.tokens`, `${positions} token ids, as many as a block holds`, tokens);
    }
    places.set(block, parent);
  }
  const held = new Set(places.keys());
  for (const [at, { id, length, blocks, kept }] of sequences.entries()) {
    const name = `image.sequences[${at}]`;
    if (!isCount(id) || id >= nextSequence || id <= (sequences[at - 1]?.id ?? -1)) {
      fail(`${name}.id`, `an id below ${nextSequence}, in ascending order`, id);
    }
    if (!isCount(length) || blocks.length !== Math.ceil(length / positions)) {
      fail(`${name}.blocks`, `${Math.ceil(length / positions)} blocks for ${length} tokens`, blocks);
    }
    const most = Math.floor(length / positions);
    if (!isCount(kept) || kept > most) fail(`${name}.kept`, `0 to ${most} blocks`, kept);
    const isWay = blocks.slice(0, kept).every((block: number, index: number) => {
      return places.has(block) && places.get(block) === (index === 0 ? undefined : blocks[index - 1]);
    });
    if (!isWay) fail(`${name}.kept`, "blocks that are known to continue each other", blocks.slice(0, kept));
    for (const block of blocks) held.add(block);
  }
  const isGapless = [...held].every((block) => isCount(block) && block < held.size);
  if (!isGapless) fail("image", "blocks that are numbered from 0 on, without a gap", [...held]);
  if (held.size > numBlocks) fail("image", `at most ${numBlocks} blocks`, held.size);
}
