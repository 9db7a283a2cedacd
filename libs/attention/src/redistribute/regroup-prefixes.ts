import type { PrefixBlock } from "../kv/prefix-transfer.ts";

/** A full block of another size, of texts whose blocks are known. */
export interface RegroupedBlock extends PrefixBlock {
  /** The position of its first token. */
  readonly start: number;
  /** Places, in the list that was regrouped, of the blocks that hold its tokens, from that of `start` on. */
  readonly sources: readonly number[];
}

/** Known texts in blocks of another size. */
export interface RegroupedPrefixes {
  /** Each after the one that it continues; texts that came first come first. */
  readonly blocks: readonly RegroupedBlock[];
  /** For each block of the old list, the last new one that ends where it does or before, of the same text; or -1. */
  readonly lastOf: readonly number[];
}

/**
 * Cuts known texts into full blocks of another size. What a text has beyond its last full block is left out. Texts that
 * begin alike share blocks as far as they can.
 * @param fromSize tokens of each block of the list
 * @param toSize tokens of each block that is to be
 */
export function regroupPrefixes(list: readonly PrefixBlock[], fromSize: number, toSize: number): RegroupedPrefixes {
  const blocks: RegroupedBlock[] = [];
  const lastOf: number[] = [];
  const indexes: number[] = [];
  const known = new Map<string, number>();
  for (const [place, { parent }] of list.entries()) {
    const index = (indexes[parent] ?? -1) + 1;
    indexes.push(index);
    let last = lastOf[parent] ?? -1;
    const first = Math.floor((index * fromSize) / toSize) * toSize;
    for (let start = first; start + toSize <= (index + 1) * fromSize; start += toSize) {
      const sources = waySources(list, place, index - Math.floor(start / fromSize) + 1);
      const all = sources.flatMap((source) => list[source]?.tokens ?? []);
      const tokens = all.slice(start % fromSize, (start % fromSize) + toSize);
      const key = `${last}:${tokens.join(",")}`;
      const found = known.get(key) ?? blocks.length;
      if (found === blocks.length) {
        known.set(key, found);
        blocks.push({ parent: last, tokens, start, sources });
      }
      last = found;
    }
    lastOf.push(last);
  }
  return { blocks, lastOf };
}

/** The last `count` blocks of the way to a block, in order. */
function waySources(list: readonly PrefixBlock[], place: number, count: number): number[] {
  const way: number[] = [];
  for (let at = place; way.length < count && at >= 0; at = list[at]?.parent ?? -1) way.push(at);
  return way.reverse();
}
