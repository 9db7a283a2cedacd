import process from "node:process";
import { StreamDecoder, type Tokenizer } from "@lockstep/language-model";

/**
 * Prints texts while they grow: the first one as its tokens come, the others after it, in their order. Several are
 * numbered.
 */
export class TextPrinter {
  readonly #write: (text: string) => void;
  readonly #decoders: readonly StreamDecoder[];
  /** What each text says so far; of the first one, printed already. */
  readonly #texts: string[];

  /** `prompts` are the texts' beginnings, `ids` their tokens. */
  constructor(
    tokenizer: Tokenizer,
    prompts: readonly string[],
    ids: readonly (readonly number[])[],
    write: (text: string) => void = (text) => process.stdout.write(text),
  ) {
    this.#write = write;
    this.#decoders = ids.map((prompt) => new StreamDecoder(tokenizer, prompt));
    this.#texts = prompts.map((prompt, text) => (prompts.length === 1 ? prompt : `[${text + 1}] ${prompt}`));
  }

  /** A text goes on. */
  push(text: number, token: number): void {
    this.#texts[text] = (this.#texts[text] ?? "") + (this.#decoders[text]?.push(token) ?? "");
    if (text === 0) this.#flush(0);
  }

  /** All texts are complete. */
  end(): void {
    for (const [text, decoder] of this.#decoders.entries()) {
      this.#flush(text);
      this.#write(`${decoder.end()}\n\n`);
    }
  }

  #flush(text: number): void {
    this.#write(this.#texts[text] ?? "");
    this.#texts[text] = "";
  }
}
