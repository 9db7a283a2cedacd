// What a rank does for a context that goes to the ranks of another world, or comes from them.
import type { CacheLayout, ContextImage, DcpAttention, RowPart } from "@lockstep/attention";
import { type SharedHeap, Tensor } from "@lockstep/tensor";

/** What a rank stores. Plain data. */
export interface StoredContext {
  /** Who holds which blocks: the same on all ranks. */
  readonly image: ContextImage;
  /** What is stored of every token on this rank. */
  readonly parts: readonly RowPart[];
  /** What decides what that means. */
  readonly layout: CacheLayout;
}

/** What the host calls on the ranks of both worlds while a context moves, between steps. */
export interface ContextMethods {
  storedContext(): StoredContext;
  /** Rows of all parts, one part after another: those of the slots, in their order. */
  readRows(slots: readonly number[]): Promise<Uint8Array[]>;
  /** Writes what {@link ContextMethods.readRows} gave, where nothing is stored yet. */
  writeRows(slots: readonly number[], parts: readonly Uint8Array[]): Promise<void>;
}

/** @param heap where the rows of a part lie meanwhile */
export function contextMethods(attention: DcpAttention, heap: SharedHeap): ContextMethods {
  const rowsOf = async (
    { dtype, shape }: RowPart,
    count: number,
    use: (rows: Tensor) => Promise<void>,
  ): Promise<void> => {
    const rows = Tensor.empty(heap, dtype, [count, ...shape]);
    try {
      await use(rows);
    } finally {
      rows.free();
    }
  };
  return {
    storedContext: () => ({
      image: attention.contextImage,
      parts: attention.rowParts,
      layout: attention.cacheLayout,
    }),

    async readRows(slots) {
      const all: Uint8Array[] = [];
      // Also without slots: where ranks share a device each reads as often as the others.
      for (const part of attention.rowParts) {
        await rowsOf(part, slots.length, async (rows) => {
          await attention.readRows(part.name, slots, rows);
          all.push(rows.bytes.slice());
        });
      }
      return all;
    },

    async writeRows(slots, parts) {
      for (const [at, part] of attention.rowParts.entries()) {
        await rowsOf(part, slots.length, async (rows) => {
          rows.bytes.set(parts[at] ?? []);
          await attention.writeRows(part.name, slots, rows);
        });
      }
    },
  };
}
