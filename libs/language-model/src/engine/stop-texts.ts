import { ArgumentError, describe } from "@lockstep/tensor";

/** Most stop texts of one request. */
const MOST_STOPS = 16;
/** Most UTF-16 units of one stop text. */
const LONGEST_STOP = 256;

/** Text that is final, and whether it is the last. */
export interface FinalText {
  /** Text that nothing that comes can change. */
  readonly text: string;
  /** Whether a stop text came: there is no more text after `text`. */
  readonly stopped: boolean;
}

/**
 * Ends a text before the first of some stop texts, while the text comes in parts. Parts may end anywhere: what comes
 * out, joined, is the text up to the place where the first stop text begins.
 *
 * What may become a stop text is held back: at most one UTF-16 unit less than the longest has. Each stop text is
 * followed by its automaton (Knuth, Morris and Pratt), so that a part costs its length times the number of stop texts.
 */
export class StopTexts {
  readonly #stops: readonly Automaton[];
  /** Text that came and was not given. */
  #held = "";
  /** Where in the held text the first stop text begins that came whole; undefined as long as none did. */
  #cut: number | undefined;
  #stopped = false;

  /**
   * @param stop none, one, or up to 16 texts of 1 to 256 UTF-16 units
   * @throws ArgumentError for anything else, and for halves of surrogate pairs, which no text begins or ends with
   */
  constructor(stop: string | readonly string[] = [], operation = "StopTexts") {
    this.#stops = checkStops(stop, operation).map((text) => new Automaton(text));
  }

  /** Takes the next part; gives what is final with it. Once stopped, nothing more comes out. */
  push(part: string): FinalText {
    if (this.#stopped) return { text: "", stopped: true };
    if (this.#stops.length === 0) return { text: part, stopped: false };
    const before = this.#held.length;
    const all = this.#held + part;
    for (let at = before; at < all.length; at++) {
      const unit = all.charCodeAt(at);
      for (const stop of this.#stops) {
        if (stop.advance(unit)) this.#cut = Math.min(this.#cut ?? all.length, at + 1 - stop.length);
      }
      // One that began earlier may still come whole: then the text ends there.
      if (this.#cut !== undefined && at + 1 - this.#mayHold() >= this.#cut) return this.#stop(all.slice(0, this.#cut));
    }
    const given = all.length - this.#mayHold();
    this.#held = all.slice(given);
    if (this.#cut !== undefined) this.#cut -= given;
    return { text: all.slice(0, given), stopped: false };
  }

  /** The text ends here: gives what was held back, up to a stop text in it. */
  end(): FinalText {
    if (this.#stopped) return { text: "", stopped: true };
    if (this.#cut !== undefined) return this.#stop(this.#held.slice(0, this.#cut));
    const text = this.#held;
    this.#held = "";
    for (const stop of this.#stops) stop.reset();
    return { text, stopped: false };
  }

  /** UTF-16 units that are held back now. */
  get heldLength(): number {
    return this.#held.length;
  }

  #stop(text: string): FinalText {
    this.#stopped = true;
    this.#held = "";
    return { text, stopped: true };
  }

  /** How many of the last units may begin a stop text. */
  #mayHold(): number {
    let longest = 0;
    for (const stop of this.#stops) longest = Math.max(longest, stop.matched);
    return longest;
  }
}

/** How far a text, unit by unit, ends like a stop text begins. */
class Automaton {
  readonly #text: string;
  /** For each number of units matched: of the longest shorter beginning that these units end with. */
  readonly #shorter: readonly number[];
  /** Units at the end of what came that the stop text begins with: fewer than it has. */
  matched = 0;

  constructor(text: string) {
    this.#text = text;
    const shorter = [0, 0];
    for (let at = 1, known = 0; at < text.length; at++) {
      while (known > 0 && text[at] !== text[known]) known = shorter[known] ?? 0;
      if (text[at] === text[known]) known++;
      shorter.push(known);
    }
    this.#shorter = shorter;
  }

  get length(): number {
    return this.#text.length;
  }

  reset(): void {
    this.matched = 0;
  }

  /** Takes a unit; whether the stop text is whole with it. */
  advance(unit: number): boolean {
    let known = this.matched;
    while (known > 0 && this.#text.charCodeAt(known) !== unit) known = this.#shorter[known] ?? 0;
    if (this.#text.charCodeAt(known) === unit) known++;
    const isWhole = known === this.#text.length;
    this.matched = isWhole ? (this.#shorter[known] ?? 0) : known;
    return isWhole;
  }
}

function checkStops(stop: string | readonly string[], operation: string): readonly string[] {
  const stops: readonly unknown[] = typeof stop === "string" ? [stop] : Array.isArray(stop) ? stop : [undefined];
  const expected = `up to ${MOST_STOPS} texts of 1 to ${LONGEST_STOP} characters`;
  if (stops.length > MOST_STOPS) throw new ArgumentError(operation, "stop", expected, `${stops.length} texts`);
  return stops.map((text) => {
    if (typeof text !== "string") throw new ArgumentError(operation, "stop", expected, describe(stop));
    if (text.length === 0 || text.length > LONGEST_STOP) {
      throw new ArgumentError(operation, "stop", expected, `one of ${text.length} characters`);
    }
    if (text.isWellFormed()) return text;
    throw new ArgumentError(operation, "stop", "whole characters", `half of a surrogate pair in ${describe(text)}`);
  });
}
