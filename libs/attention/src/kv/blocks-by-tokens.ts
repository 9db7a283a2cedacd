/** Something that holds tokens. */
interface WithTokens {
  readonly tokens: readonly number[];
}

/**
 * Blocks that continue the same text, each with other tokens, found by these: compared exactly, whatever their hash.
 * Where many have the same hash, which nobody could bring about but by having each of them computed, it takes longer.
 */
export class BlocksByTokens<Block extends WithTokens> {
  readonly #byHash = new Map<number, Block[]>();
  readonly #hash: typeof hashOfTokens;

  /** @param hash a number made of tokens */
  constructor(hash = hashOfTokens) {
    this.#hash = hash;
  }

  /** The block that holds ids[from], ids[from + 1], ..., ids[from + count - 1]. */
  find(ids: readonly number[], from: number, count: number): Block | undefined {
    return this.#byHash.get(this.#hash(ids, from, count))?.find(({ tokens }) => isAt(tokens, ids, from, count));
  }

  /** Adds a block whose tokens no other one here has. */
  add(block: Block): void {
    const hash = this.#hash(block.tokens, 0, block.tokens.length);
    const alike = this.#byHash.get(hash);
    if (alike === undefined) this.#byHash.set(hash, [block]);
    else alike.push(block);
  }

  delete(block: Block): void {
    const hash = this.#hash(block.tokens, 0, block.tokens.length);
    const others = this.#byHash.get(hash)?.filter((other) => other !== block) ?? [];
    if (others.length > 0) this.#byHash.set(hash, others);
    else this.#byHash.delete(hash);
  }

  clear(): void {
    this.#byHash.clear();
  }

  /** All of them. */
  list(): Block[] {
    return [...this.#byHash.values()].flat();
  }
}

/** A number of 32 bits made of ids[from], ..., ids[from + count - 1]: others have the same seldom. */
export function hashOfTokens(ids: readonly number[], from: number, count: number): number {
  let hash = count;
  for (let at = from; at < from + count; at++) {
    hash = Math.imul(hash ^ (ids[at] ?? 0), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  return hash;
}

function isAt(tokens: readonly number[], ids: readonly number[], from: number, count: number): boolean {
  if (tokens.length !== count) return false;
  for (let at = 0; at < count; at++) if (tokens[at] !== ids[from + at]) return false;
  return true;
}
