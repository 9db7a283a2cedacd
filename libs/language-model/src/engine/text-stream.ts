import { StreamDecoder, type Tokenizer } from "../model/tokenizer.ts";
import { type FinalText, StopTexts } from "./stop-texts.ts";

/**
 * The text of one request, token by token: whole characters only, up to its first stop text. The parts, joined, are
 * what decoding all tokens at once gives, up to where the first stop text begins in it.
 */
export class TextStream {
  readonly #decoder: StreamDecoder;
  readonly #stops: StopTexts;

  /**
   * @param before the tokens of the prompt, which are not repeated
   * @param stop as of {@link StopTexts}, whose errors name `operation`
   */
  constructor(
    tokenizer: Tokenizer,
    before: readonly number[] = [],
    stop: string | readonly string[] = [],
    operation = "TextStream",
  ) {
    this.#stops = new StopTexts(stop, operation);
    this.#decoder = new StreamDecoder(tokenizer, before);
  }

  /** Takes the next token; gives the text that is final with it, and whether a stop text came. */
  push(token: number): FinalText {
    return this.#stops.push(this.#decoder.push(token));
  }

  /** There are no more tokens: gives what was held back. A character of which bytes are missing shows as U+FFFD. */
  end(): FinalText {
    const last = this.#stops.push(this.#decoder.end());
    if (last.stopped) return last;
    const held = this.#stops.end();
    return { text: last.text + held.text, stopped: held.stopped };
  }
}
