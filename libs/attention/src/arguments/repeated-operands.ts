import { HeapExhausted } from "@lockstep/tensor";

/** Steps of up to so many tokens are prepared: with more, checks cost nothing beside the kernels. */
export const MOST_PREPARED_TOKENS = 16;

/** Operands that are remembered for each layer: those of steps of some sizes. */
const MOST_ENTRIES = 8;

interface Entry<Prepared> {
  readonly operands: readonly unknown[];
  /** Undefined: seen once. Null: it cannot be prepared. */
  prepared: Prepared | undefined | null;
}

/**
 * Ops that were prepared for operands which came again: a model's layers give the same tensors at every step, and other
 * callers new ones, for which preparing would be in vain.
 */
export class RepeatedOperands<Prepared extends { free(): void }> {
  readonly #layers = new Map<number, { readonly entries: Entry<Prepared>[]; next: number }>();

  /**
   * What is prepared for these operands of a layer; undefined for operands that have not come before, or cannot be
   * prepared.
   * @param prepare called when they come for the second time
   */
  find(
    layer: number,
    first: unknown,
    second: unknown,
    third: unknown,
    prepare: () => Prepared | undefined,
  ): Prepared | undefined {
    let known = this.#layers.get(layer);
    if (known === undefined) {
      known = { entries: [], next: 0 };
      this.#layers.set(layer, known);
    }
    for (let index = 0; index < known.entries.length; index++) {
      const entry = known.entries[index];
      if (entry === undefined) break;
      const { operands, prepared } = entry;
      if (operands[0] !== first || operands[1] !== second || operands[2] !== third) continue;
      if (prepared === undefined) entry.prepared = tryTo(prepare);
      return entry.prepared ?? undefined;
    }
    known.entries[known.next]?.prepared?.free();
    known.entries[known.next] = { operands: [first, second, third], prepared: undefined };
    known.next = (known.next + 1) % MOST_ENTRIES;
    return undefined;
  }

  /** Frees all that was prepared. */
  free(): void {
    for (const { entries } of this.#layers.values()) for (const { prepared } of entries) prepared?.free();
    this.#layers.clear();
  }
}

/** Null where there is no memory for it, which the op itself does without. */
function tryTo<Prepared>(prepare: () => Prepared | undefined): Prepared | null {
  try {
    return prepare() ?? null;
  } catch (error) {
    if (error instanceof HeapExhausted) return null;
    throw error;
  }
}
