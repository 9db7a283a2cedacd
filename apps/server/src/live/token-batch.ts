import type { ActivityEvent } from "../activity.ts";
import type { TextChange, TokensMessage } from "./live-messages.ts";

/** Most texts, and most tokens of each, that one message tells about: the last tokens. */
export const MOST_TEXTS = 128;
export const MOST_TOKENS = 64;
/** Most characters of one token's text. */
export const LONGEST_TOKEN = 64;

interface Change {
  readonly id: string;
  route: "completions" | "chat" | undefined;
  skipped: number;
  tokens: string[];
  ended: string | undefined;
}

/** Gathers what is generated between two messages. Holds a bounded number of texts and tokens. */
export class TokenBatch {
  readonly #textOf: (token: number) => string;
  readonly #changes = new Map<string, Change>();
  #left = new Set<string>();

  /** @param textOf text of a token, empty where it is not to be told */
  constructor(textOf: (token: number) => string) {
    this.#textOf = textOf;
  }

  /** Takes an event in. */
  add(event: ActivityEvent): void {
    const change = this.#changeOf(event.id);
    if (change === undefined) return;
    if (event.kind === "start") change.route = event.route;
    else if (event.kind === "end") change.ended = event.reason;
    else {
      for (const token of event.tokens) {
        change.tokens.push(this.#textOf(token).slice(0, LONGEST_TOKEN));
        if (change.tokens.length <= MOST_TOKENS) continue;
        change.tokens.shift();
        change.skipped++;
      }
    }
  }

  /** What was gathered since the last call, or undefined when there was nothing. */
  take(): TokensMessage | undefined {
    if (this.#changes.size === 0) return undefined;
    const texts = [...this.#changes.values()].map(
      ({ id, route, skipped, tokens, ended }): TextChange => ({
        id,
        ...(route === undefined ? {} : { route }),
        ...(skipped === 0 ? {} : { skipped }),
        ...(tokens.length === 0 ? {} : { tokens }),
        ...(ended === undefined ? {} : { ended }),
      }),
    );
    const left = this.#left.size;
    this.clear();
    return { texts, left };
  }

  /** Forgets what was gathered. */
  clear(): void {
    this.#changes.clear();
    this.#left = new Set();
  }

  #changeOf(id: string): Change | undefined {
    const known = this.#changes.get(id);
    if (known !== undefined) return known;
    if (this.#changes.size >= MOST_TEXTS) {
      if (this.#left.size < MOST_TEXTS) this.#left.add(id);
      return undefined;
    }
    const change: Change = { id, route: undefined, skipped: 0, tokens: [], ended: undefined };
    this.#changes.set(id, change);
    return change;
  }
}
