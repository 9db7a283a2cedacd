// Which texts of two sides differ: without that, times say nothing.
import type { Answer } from "./clients.ts";

/** How many texts were compared, how many of them differ, and how the first that does. */
export class Differing {
  #compared = 0;
  #differing = 0;
  #first = "";

  /** Compares answers to the same requests: by their tokens where both tell them, else by their texts. */
  add(ours: readonly Answer[], theirs: readonly Answer[]): void {
    if (ours.length !== theirs.length)
      throw new Error(`${ours.length} answers of ours, but ${theirs.length} of theirs`);
    for (const [index, own] of ours.entries()) {
      const other = theirs[index];
      if (other === undefined) continue;
      this.#compared++;
      const hasTokens = own.tokens.length > 0 && other.tokens.length > 0;
      const isSame = hasTokens ? own.tokens.join() === other.tokens.join() : own.text === other.text;
      if (isSame) continue;
      this.#differing++;
      if (this.#first === "") this.#first = hasTokens ? ofTokens(own, other) : ofTexts(own, other);
    }
  }

  /** Of all that were compared, from 0 to 1. */
  get share(): number {
    return this.#compared === 0 ? 0 : this.#differing / this.#compared;
  }

  /** In words. */
  toString(): string {
    return `${this.#differing} of ${this.#compared} texts differ${this.#first === "" ? "" : `, the first: ${this.#first}`}`;
  }
}

function ofTokens({ tokens }: Answer, other: Answer): string {
  let at = 0;
  while (at < tokens.length && tokens[at] === other.tokens[at]) at++;
  return `token ${at + 1} is ${tokens[at] ?? "missing"} and ${other.tokens[at] ?? "missing"}`;
}

function ofTexts({ text }: Answer, other: Answer): string {
  return `${JSON.stringify(text)} and ${JSON.stringify(other.text)}`;
}
