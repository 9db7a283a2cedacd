import { existsSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { ModelError } from "./errors.ts";
import { readJsonObject } from "./json-file.ts";

/** Text to token ids and back, as the model's tokenizer.json says. */
export class Tokenizer {
  readonly #tokenizer: HuggingFaceTokenizer;

  private constructor(tokenizer: HuggingFaceTokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Opens tokenizer.json (and tokenizer_config.json, when there is one) of a model folder. */
  static open(folder: string): Tokenizer {
    const path = join(folder, "tokenizer.json");
    const configPath = join(folder, "tokenizer_config.json");
    const definition = readJsonObject(path);
    const config = existsSync(configPath) ? readJsonObject(configPath) : {};
    try {
      return new Tokenizer(new HuggingFaceTokenizer(definition, config));
    } catch (error) {
      throw new ModelError(path, "a tokenizer definition", error instanceof Error ? error.message : String(error));
    }
  }

  /** Token ids of a text, special tokens that the model wants at the start included. */
  encode(text: string): number[] {
    return this.#tokenizer.encode(text).ids;
  }

  decode(ids: readonly number[]): string {
    if (ids.length === 0) return "";
    return this.#tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }
}

/** Turns a growing list of tokens into pieces of text: a piece comes out once its last character is complete. */
export class StreamDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #ids: number[];
  /** Tokens before this one are out of sight; those up to #told give the next ones their context. */
  #context = 0;
  #told: number;

  /** `before` are the tokens that came before the stream (they are not repeated). */
  constructor(tokenizer: Tokenizer, before: readonly number[] = []) {
    this.#tokenizer = tokenizer;
    this.#ids = before.slice(-8);
    this.#told = this.#ids.length;
  }

  /** The text that `token` completes, often one piece, empty in the middle of a multi-byte character. */
  push(token: number): string {
    this.#ids.push(token);
    const text = this.#unsaid();
    if (text.endsWith("\uFFFD")) return "";
    this.#context = this.#told;
    this.#told = this.#ids.length;
    return text;
  }

  /** What is left when the stream ends: an incomplete character shows as U+FFFD. */
  end(): string {
    const text = this.#unsaid();
    this.#told = this.#ids.length;
    return text;
  }

  #unsaid(): string {
    const known = this.#tokenizer.decode(this.#ids.slice(this.#context, this.#told));
    return this.#tokenizer.decode(this.#ids.slice(this.#context)).slice(known.length);
  }
}
