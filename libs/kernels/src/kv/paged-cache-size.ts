import { expectArguments, expectInteger } from "../operand.ts";

/** The size of the paged caches that a step is planned for, the same on every layer. */
export interface PagedCacheSize {
  /** Blocks of the cache. */
  readonly numBlocks: number;
  /** Tokens per block. */
  readonly blockSize: number;
}

/** Throws ArgumentError unless the size is one of paged caches. */
export function checkPagedCacheSize(name: string, size: PagedCacheSize): void {
  expectArguments(name, size);
  expectInteger(name, "numBlocks", size.numBlocks, 0, 2 ** 31 - 1);
  expectInteger(name, "blockSize", size.blockSize, 1, 2 ** 20);
}
