import { OutOfBlocks } from "../errors.ts";
import type { ContextImage, ImagedSequence } from "../kv/context-image.ts";
import type { KnownContents } from "../kv/known-blocks.ts";
import { type RegroupedPrefixes, regroupPrefixes } from "./regroup-prefixes.ts";
import type { BlockMove } from "./row-runs.ts";

/** A context in blocks of another size. */
export interface RegroupedContext {
  /** Who holds the new blocks, which are numbered from 0 on, and what is known of them. */
  readonly image: ContextImage;
  /** What each of them gets. */
  readonly moves: readonly BlockMove[];
  /** Known tokens that are not known any more: ends of texts that fill no block, and what found no room. */
  readonly forgottenTokens: number;
}

/** A new block. */
interface Block {
  readonly index: number;
  sources: readonly number[];
  end: number;
  /** Its number, once somebody needs it. */
  number: number | undefined;
}

/**
 * Deals a context to blocks of another size. Sequences keep their ids and lengths. They share a new block where they
 * shared all that is in it. Known texts stay known as far as full blocks of the new size and room for them go, those
 * used last first.
 * @param fromSize positions that a block covers
 * @param toSize positions that a new block covers
 * @param numBlocks how many new ones there are
 * @throws OutOfBlocks when sequences do not fit
 */
export function regroupContext(
  context: ContextImage,
  fromSize: number,
  toSize: number,
  numBlocks: number,
): RegroupedContext {
  const places = new Map(context.known.map(({ block }, place) => [block, place]));
  const list = context.known.map(({ parent, tokens }) => ({
    parent: parent === undefined ? -1 : (places.get(parent) ?? -1),
    tokens,
  }));
  const prefixes = regroupPrefixes(list, fromSize, toSize);
  const blocks = new NewBlocks(toSize);
  const known = prefixes.blocks.map(({ start, sources }) =>
    blocks.add(
      start / toSize,
      sources.map((place) => context.known[place]?.block ?? -1),
      start + toSize,
    ),
  );
  const taken = context.sequences.map((sequence) => {
    const last = prefixes.lastOf[places.get(sequence.blocks[sequence.kept - 1] ?? -1) ?? -1] ?? -1;
    const way = wayTo(prefixes, last).flatMap((at) => known[at] ?? []);
    return { sequence, kept: way.length, held: [...way, ...blocks.of(sequence, way.length, fromSize)] };
  });
  for (const { held } of taken) for (const block of held) blocks.number(block);
  if (blocks.numbered > numBlocks) throw new OutOfBlocks(blocks.numbered, numBlocks, numBlocks);
  const contents: KnownContents[] = [];
  const isKnown: boolean[] = [];
  for (const [at, block] of known.entries()) {
    const { parent = -1, tokens = [] } = prefixes.blocks[at] ?? {};
    const isReachable = parent === -1 || isKnown[parent] === true;
    const hasRoom = block.number !== undefined || blocks.numbered < numBlocks;
    isKnown.push(isReachable && hasRoom);
    if (!isReachable || !hasRoom) continue;
    contents.push({ block: blocks.number(block), parent: known[parent]?.number, tokens });
  }
  return {
    image: {
      nextSequence: context.nextSequence,
      sequences: taken.map(({ sequence: { id, length }, kept, held }) => {
        return { id, length, kept, blocks: held.map((block) => blocks.number(block)) };
      }),
      known: contents,
    },
    moves: blocks.moves,
    forgottenTokens: Math.max(0, list.length * fromSize - contents.length * toSize),
  };
}

/** Places of the blocks on the way to one, itself included. */
function wayTo({ blocks }: RegroupedPrefixes, last: number): number[] {
  const way: number[] = [];
  for (let at = last; at >= 0; at = blocks[at]?.parent ?? -1) way.push(at);
  return way.reverse();
}

/** New blocks by where their contents come from. */
class NewBlocks {
  readonly #size: number;
  readonly #bySource = new Map<string, Block[]>();
  readonly #numbered: Block[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  /** How many are needed so far. */
  get numbered(): number {
    return this.#numbered.length;
  }

  /** The number of a block, which is needed from now on. */
  number(block: Block): number {
    block.number ??= this.#numbered.push(block) - 1;
    return block.number;
  }

  /** What each numbered block gets. */
  get moves(): BlockMove[] {
    return this.#numbered.map(({ index, sources, end }, target) => {
      return { start: index * this.#size, end, sources, target };
    });
  }

  /** A new block that gets the positions up to `end` of these old ones. */
  add(index: number, sources: readonly number[], end: number): Block {
    const block: Block = { index, sources, end, number: undefined };
    const key = `${index}:${sources[0]}`;
    const others = this.#bySource.get(key);
    if (others === undefined) this.#bySource.set(key, [block]);
    else others.push(block);
    return block;
  }

  /** The blocks of a sequence from one on, shared where others have the same contents, or more of the same. */
  of({ length, blocks }: ImagedSequence, from: number, oldSize: number): Block[] {
    const held: Block[] = [];
    for (let index = from; index * this.#size < length; index++) {
      const end = Math.min(length, (index + 1) * this.#size);
      const sources = blocks.slice(Math.floor((index * this.#size) / oldSize), Math.ceil(end / oldSize));
      held.push(this.#sharedOrNew(index, sources, end));
    }
    return held;
  }

  #sharedOrNew(index: number, sources: readonly number[], end: number): Block {
    for (const block of this.#bySource.get(`${index}:${sources[0]}`) ?? []) {
      const common = Math.min(block.sources.length, sources.length);
      if (!sources.slice(0, common).every((source, at) => source === block.sources[at])) continue;
      if (end > block.end) [block.sources, block.end] = [sources, end];
      return block;
    }
    return this.add(index, sources, end);
  }
}
