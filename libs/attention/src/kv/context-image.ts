import type { KnownContents } from "./known-blocks.ts";

/** Who holds which blocks of a cache, and what is known of them, between steps: the same on all ranks of a context. */
export interface ContextImage {
  /** The id that the next sequence gets. */
  readonly nextSequence: number;
  /** By their ids, ascending. */
  readonly sequences: readonly ImagedSequence[];
  /** All known blocks, each after the one that it continues; otherwise those used last come first. */
  readonly known: readonly KnownContents[];
}

/** One sequence of a {@link ContextImage}. */
export interface ImagedSequence {
  /** As `createSequence` gave it. */
  readonly id: number;
  /** Tokens that are stored, over all ranks. */
  readonly length: number;
  /** Its blocks, in order. */
  readonly blocks: readonly number[];
  /** So many blocks at its start are known ones. */
  readonly kept: number;
}
