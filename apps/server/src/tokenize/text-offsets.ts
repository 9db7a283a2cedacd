/** Tokens before a text that decoders may look at. */
const MOST_CONTEXT = 16;

/**
 * Where each token of a growing text begins in it, in characters: Unicode code points, as Python counts them. A token
 * that goes on with a character which tokens before it began, as bytes of an emoji do, begins where that character
 * does.
 */
export class TextOffsets {
  readonly #decode: (tokens: readonly number[]) => string;
  /** Tokens whose characters are whole, and to be seen behind by those that come. */
  #context: readonly number[];
  /** Tokens behind them. */
  #open: number[] = [];
  /** Characters of the text before the open tokens. */
  #characters = 0;

  /**
   * @param decode makes a text of tokens; parts of characters show as U+FFFD
   * @param prompt the tokens before the text
   */
  constructor(decode: (tokens: readonly number[]) => string, prompt: readonly number[]) {
    this.#decode = decode;
    this.#context = prompt.slice(-MOST_CONTEXT);
  }

  /** Takes the next token; tells where it begins. */
  push(token: number): number {
    const begins = this.#characters + characters(this.#openText().replace(/\uFFFD+$/, ""));
    this.#open.push(token);
    const text = this.#openText();
    if (!text.endsWith("\uFFFD")) {
      this.#characters += characters(text);
      // Of a context that shows nothing decoders may strip what comes behind it.
      if (text.trim() !== "") this.#context = this.#open;
      else this.#context = [...this.#context, ...this.#open];
      this.#open = [];
    }
    return begins;
  }

  #openText(): string {
    if (this.#open.length === 0) return "";
    return this.#decode([...this.#context, ...this.#open]).slice(this.#decode(this.#context).length);
  }
}

function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
