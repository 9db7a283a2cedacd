// Whether both sides make the same tokens: without that, times say nothing.
import type { WorkTime } from "./works.ts";

/** Tokens that have to agree where no reference was made by a third implementation: later ones may be ties. */
const LEAST = 8;

interface Reference {
  readonly who: string;
  readonly tokens: readonly number[];
  /** How many of the tokens have to agree. */
  readonly least: number;
}

export class Agreement {
  readonly #references = new Map<string, Reference>();
  readonly #partial = new Map<string, string>();

  /** A work's tokens, all of which have to be made. */
  expect(work: string, who: string, tokens: readonly number[]): void {
    this.#references.set(work, { who, tokens, least: tokens.length });
  }

  /**
   * Compares a side's tokens with what is expected, or for a work of which nothing is, with what came first. What
   * agrees less than wholly is remembered.
   * @param isRounded weights were rounded, so that any token may be another one
   * @throws Error where fewer agree than have to
   */
  check(who: string, times: readonly WorkTime[], isRounded = false): void {
    for (const { name, tokens } of times) {
      const reference = this.#references.get(name);
      if (reference === undefined) {
        if (!isRounded) this.#references.set(name, { who, tokens, least: Math.min(LEAST, tokens.length) });
        continue;
      }
      const compared = Math.min(tokens.length, reference.tokens.length);
      let same = 0;
      while (same < compared && tokens[same] === reference.tokens[same]) same++;
      if (same === compared) continue;
      const [found, wanted] = [tokens[same], reference.tokens[same]];
      const where = `${name}: token ${same + 1} of ${who} is ${found}, that of ${reference.who} is ${wanted}`;
      if (!isRounded && same < Math.min(reference.least, compared)) throw new Error(`wrong tokens, ${where}`);
      this.#partial.set(`${who}, ${name}`, `${where} (${same} of ${compared} agree)`);
    }
  }

  /** What did not agree wholly, a line each. */
  get partial(): readonly string[] {
    return [...this.#partial.values()];
  }
}
