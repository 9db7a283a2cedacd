/**
 * A table of 32-bit words that a kernel reads: parts of some words each, one after another. The kernel's `.as.ts` has a
 * constant of every part's name, its offset in bytes; `word-table.test.ts` holds the two sides to each other.
 */
export class WordTable<const Parts extends Readonly<Record<string, number>>> {
  /** First word of each part. */
  readonly at: { readonly [Name in keyof Parts]: number };
  /** Words of the whole table. */
  readonly words: number;

  /** @param parts words of each part, in order */
  constructor(parts: Parts) {
    let words = 0;
    const places: Record<string, number> = {};
    for (const [name, size] of Object.entries(parts)) {
      places[name] = words;
      words += size;
    }
    this.at = places as { readonly [Name in keyof Parts]: number };
    this.words = words;
  }
}
