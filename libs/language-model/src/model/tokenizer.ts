import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { ArgumentError, describe } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import type { JsonObject } from "./json-file.ts";
import { type ModelSource, modelFolder } from "./model-files.ts";
import { checkTokenizer, specialTokens } from "./tokenizer-definition.ts";
import { replacesAcrossTokens } from "./tokenizer-parts.ts";

/** How a text is made tokens. */
export interface EncodeOptions {
  /** Add the special tokens that the model wants around a text. Default true. */
  readonly addSpecialTokens?: boolean;
}

/** Text to token ids and back, as the model's tokenizer.json says. */
export class Tokenizer {
  readonly #path: string;
  readonly #tokenizer: HuggingFaceTokenizer;
  /** Tokens that are left out of decoded text. */
  readonly #special: ReadonlySet<string>;
  /** False where the text of tokens is known only when all are there: {@link StreamDecoder} then waits for the end. */
  readonly isPiecewise: boolean;

  private constructor(path: string, definition: JsonObject, config: JsonObject) {
    this.#path = path;
    this.#tokenizer = this.#try(() => new HuggingFaceTokenizer(definition, config));
    this.#special = specialTokens(definition, config);
    this.isPiecewise = !replacesAcrossTokens(definition.decoder);
  }

  /**
   * Opens tokenizer.json (and tokenizer_config.json, when there is one) of a model: of its folder, or of its files.
   * Throws {@link ModelError} when they are none that can be used, ArgumentError unless `source` can be a model.
   */
  static open(source: ModelSource): Tokenizer {
    const folder = modelFolder("Tokenizer.open", source);
    const path = folder.path("tokenizer.json");
    const definition = checkTokenizer(path, folder.json("tokenizer.json"));
    const config = folder.has("tokenizer_config.json") ? folder.json("tokenizer_config.json") : {};
    const tokenizer = new Tokenizer(path, definition, config);
    // Parts of a definition are looked at only when a text comes.
    tokenizer.decode(tokenizer.encode("A text, 1 of 2."));
    return tokenizer;
  }

  /**
   * Token ids of a text, special tokens that the model wants at the start included; but for those with
   * `addSpecialTokens: false`, as for texts of chat templates, which have them. Special tokens in a text are found in
   * any case.
   */
  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    expectText("Tokenizer.encode", "text", text);
    if (typeof addSpecialTokens !== "boolean") {
      throw new ArgumentError("Tokenizer.encode", "addSpecialTokens", "true or false", describe(addSpecialTokens));
    }
    const options = { add_special_tokens: addSpecialTokens };
    const ids: unknown[] = this.#try(() => this.#tokenizer.encode(text, options).ids);
    return ids.map((id) => {
      if (typeof id === "number" && Number.isSafeInteger(id) && id >= 0) return id;
      throw new ModelError(this.#path, "a token for every part of a text", "parts without, and no unk_token");
    });
  }

  /** Whether a token takes part in decoded text: not if it is special, or an id that no token has. */
  hasText(id: number): boolean {
    const token = this.#tokenizer.id_to_token(id);
    return typeof token === "string" && !this.#special.has(token);
  }

  /** The text of tokens, without special ones. */
  decode(ids: readonly number[]): string {
    if (!Array.isArray(ids)) throw new ArgumentError("Tokenizer.decode", "ids", "a list of token ids", describe(ids));
    const shown = ids.filter((id) => this.hasText(id));
    if (shown.length === 0) return "";
    const options = { skip_special_tokens: true, clean_up_tokenization_spaces: false };
    return this.#try(() => this.#tokenizer.decode(shown, options));
  }

  #try<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      const message = error instanceof Error ? error.message : "something else";
      throw new ModelError(this.#path, "a tokenizer definition", message.slice(0, 200));
    }
  }
}

function expectText(operation: string, argument: string, value: string): void {
  if (typeof value !== "string") throw new ArgumentError(operation, argument, "a text", describe(value));
}

/**
 * Turns a growing list of tokens into pieces of text: a piece comes out once its last character is complete. The
 * pieces, joined, are what decoding all tokens at once gives, whatever the tokens.
 */
export class StreamDecoder {
  readonly #tokenizer: Tokenizer;
  /** Tokens with text from the context on. */
  #ids: number[];
  /** How many of them have been told: the context of those that come. */
  #told: number;

  /** `before` are the tokens that came before the stream (they are not repeated). */
  constructor(tokenizer: Tokenizer, before: readonly number[] = []) {
    this.#tokenizer = tokenizer;
    this.#ids = before.filter((id) => tokenizer.hasText(id));
    this.#told = this.#ids.length;
  }

  /**
   * The text that `token` completes, often one piece, empty in the middle of a multi-byte character, and until the end
   * where later tokens may change what was said.
   */
  push(token: number): string {
    // A token without text must not become the context: decoders treat the first token of a text otherwise than the
    // rest.
    if (!this.#tokenizer.hasText(token)) return "";
    this.#ids.push(token);
    if (!this.#tokenizer.isPiecewise) return "";
    const text = this.#unsaid();
    if (text.endsWith("\uFFFD")) return "";
    this.#dropContext(this.#told);
    return text;
  }

  /** What is left when the stream ends: an incomplete character shows as U+FFFD. */
  end(): string {
    const text = this.#unsaid();
    this.#told = this.#ids.length;
    return text;
  }

  #unsaid(): string {
    const known = this.#tokenizer.decode(this.#ids.slice(0, this.#told));
    return this.#tokenizer.decode(this.#ids).slice(known.length);
  }

  /**
   * Forgets what came before the last piece, unless nothing would be seen of that one, as of spaces that decoders
   * strip.
   */
  #dropContext(start: number): void {
    if (start > 0 && this.#tokenizer.decode(this.#ids.slice(start)).trim() !== "") this.#ids = this.#ids.slice(start);
    this.#told = this.#ids.length;
  }
}
