import { BlocksByTokens } from "./blocks-by-tokens.ts";

/** What a known block holds. */
export interface KnownContents {
  /** Its number. */
  readonly block: number;
  /** The known block that it continues; undefined for the first of a text. */
  readonly parent: number | undefined;
  /** Its tokens. */
  readonly tokens: readonly number[];
}

/** A full block whose tokens are known, and the known blocks that continue it. */
interface KnownBlock {
  readonly block: number;
  /** The known block before it; undefined for the first of a text. */
  readonly parent: KnownBlock | undefined;
  readonly tokens: readonly number[];
  readonly children: BlocksByTokens<KnownBlock>;
}

/**
 * Full blocks of a KV cache by what they hold: a tree in which a block is found by the block before it and its own
 * tokens, compared exactly. What a block holds follows from its tokens and all before them, so one block serves every
 * text that begins with the tokens on the way to it.
 *
 * Those that nobody holds wait to be used again, or to be handed out: least recently used first.
 */
export class KnownBlocks {
  readonly #first = new BlocksByTokens<KnownBlock>();
  readonly #known = new Map<number, KnownBlock>();
  /** Known blocks that nobody holds, least recently used first. */
  readonly #idle = new Set<number>();

  /** Known blocks that nobody holds. */
  get idle(): number {
    return this.#idle.size;
  }

  /** The idle block that was used least recently. */
  get oldest(): number | undefined {
    return this.#idle.values().next().value;
  }

  has(block: number): boolean {
    return this.#known.has(block);
  }

  /**
   * The known block that holds `count` tokens of a text, from the one at `from` on, after `parent`, a known block;
   * undefined stands for the start of a text.
   */
  find(parent: number | undefined, ids: readonly number[], from: number, count: number): number | undefined {
    return this.#after(parent)?.find(ids, from, count)?.block;
  }

  /**
   * Makes known what a block holds: these tokens, which are kept, after `parent`, which is known; undefined: the start
   * of a text.
   */
  add(block: number, parent: number | undefined, tokens: readonly number[]): void {
    const before = parent === undefined ? undefined : this.#known.get(parent);
    const known: KnownBlock = { block, parent: before, tokens, children: new BlocksByTokens() };
    this.#after(parent)?.add(known);
    this.#known.set(block, known);
  }

  /** Somebody holds the block. */
  use(block: number): void {
    this.#idle.delete(block);
  }

  /** Nobody holds the block, which is known, any more: of the idle ones it is the last to be handed out. */
  rest(block: number): void {
    this.#idle.delete(block);
    this.#idle.add(block);
  }

  /** All of them, each after the one that it continues; otherwise those used last come first. */
  list(): KnownContents[] {
    const listed = new Set<KnownBlock>();
    const held = [...this.#known.values()].filter(({ block }) => !this.#idle.has(block));
    const idle = [...this.#idle].reverse().map((block) => this.#known.get(block));
    for (let known of [...held, ...idle]) {
      const way: KnownBlock[] = [];
      for (; known !== undefined && !listed.has(known); known = known.parent) way.push(known);
      for (const passed of way.reverse()) listed.add(passed);
    }
    return Array.from(listed, ({ block, parent, tokens }) => ({ block, parent: parent?.block, tokens }));
  }

  /**
   * Forgets what a block holds. Those that continue it cannot be found without it, so they are forgotten too.
   * @returns the forgotten blocks that were idle
   */
  forget(block: number): number[] {
    const top = this.#known.get(block);
    if (top === undefined) return [];
    (top.parent?.children ?? this.#first).delete(top);
    const freed: number[] = [];
    const left = [top];
    for (let known = left.pop(); known !== undefined; known = left.pop()) {
      this.#known.delete(known.block);
      if (this.#idle.delete(known.block)) freed.push(known.block);
      left.push(...known.children.list());
    }
    return freed;
  }

  /** Forgets all. @returns the blocks that were idle */
  forgetAll(): number[] {
    const freed = [...this.#idle];
    this.#first.clear();
    this.#known.clear();
    this.#idle.clear();
    return freed;
  }

  #after(parent: number | undefined): BlocksByTokens<KnownBlock> | undefined {
    return parent === undefined ? this.#first : this.#known.get(parent)?.children;
  }
}
