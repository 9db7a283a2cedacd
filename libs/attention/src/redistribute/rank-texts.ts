import type { ProcessGroup } from "@lockstep/dist-groups";
import { Arena, type SharedHeap, Tensor } from "@lockstep/tensor";

/** Bytes of a text that travel at once. */
const PIECE_BYTES = 4 << 10;

/**
 * How ranks tell each other texts of any length. It takes its memory once, so that a rank whose heap is full later can
 * still say so.
 */
export class TextChannel implements Disposable {
  readonly group: ProcessGroup;
  readonly #deadlineMs: number | undefined;
  readonly #arena: Arena;
  readonly #lengths: { readonly own: Tensor; readonly all: Tensor };
  readonly #pieces: { readonly own: Tensor; readonly all: Tensor };

  /** @throws HeapExhausted */
  constructor(group: ProcessGroup, heap: SharedHeap, deadlineMs: number | undefined) {
    const { size } = group;
    this.group = group;
    this.#deadlineMs = deadlineMs;
    this.#arena = new Arena(heap, (size + 1) * (PIECE_BYTES + 4) + 4 * 128);
    const pair = (dtype: "i32" | "u8", length: number) => ({
      own: Tensor.zeros(this.#arena, dtype, [1, length]),
      all: Tensor.zeros(this.#arena, dtype, [size, length]),
    });
    this.#lengths = pair("i32", 1);
    this.#pieces = pair("u8", PIECE_BYTES);
  }

  /** The texts of all ranks, in rank order. Called by every rank. */
  async gather(text: string): Promise<string[]> {
    const bytes = new TextEncoder().encode(text);
    const lengths = await this.#gatherLengths(bytes.length);
    const texts = lengths.map((length) => new Uint8Array(length));
    const { own, all } = this.#pieces;
    for (let start = 0; start < Math.max(...lengths); start += PIECE_BYTES) {
      own.bytes.set(bytes.subarray(start, start + PIECE_BYTES));
      await this.group.async.allGather(own, all, { dim: 0, deadlineMs: this.#deadlineMs });
      for (const [rank, whole] of texts.entries()) {
        const rest = Math.min(PIECE_BYTES, whole.length - start);
        if (rest > 0) whole.set(all.select(0, rank).bytes.subarray(0, rest), start);
      }
    }
    return texts.map((whole) => new TextDecoder().decode(whole));
  }

  /** The text of one rank. Called by every rank. @param text what this rank says, if it is that one */
  async broadcast(root: number, text: string | undefined): Promise<string> {
    const bytes = new TextEncoder().encode(text ?? "");
    const whole = new Uint8Array((await this.#gatherLengths(bytes.length))[root] ?? 0);
    const { own } = this.#pieces;
    for (let start = 0; start < whole.length; start += PIECE_BYTES) {
      if (this.group.rank === root) own.bytes.set(bytes.subarray(start, start + PIECE_BYTES));
      await this.group.async.broadcast(own, root, { deadlineMs: this.#deadlineMs });
      whole.set(own.bytes.subarray(0, Math.min(PIECE_BYTES, whole.length - start)), start);
    }
    return new TextDecoder().decode(whole);
  }

  async #gatherLengths(length: number): Promise<number[]> {
    const { own, all } = this.#lengths;
    own.set([length]);
    await this.group.async.allGather(own, all, { dim: 0, deadlineMs: this.#deadlineMs });
    return [...all.toNumbers()];
  }

  [Symbol.dispose](): void {
    this.#arena.close();
  }
}
