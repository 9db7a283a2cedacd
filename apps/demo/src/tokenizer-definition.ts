import { ModelError } from "./errors.ts";
import { describeJson, isJsonObject, type JsonObject } from "./json-file.ts";

/** Ids beyond this are none that a table of embeddings has; those below cost little memory, used or not. */
const LARGEST_ID = 2 ** 24 - 1;

/**
 * Checks the parts of tokenizer.json that would otherwise be believed: ids, added tokens, and what may loop for ever.
 * Returns the definition, with a default that its reader lacks. @throws ModelError
 */
export function checkTokenizer(path: string, definition: JsonObject): JsonObject {
  const { model, decoder } = definition;
  if (!isJsonObject(model)) throw new ModelError(path, "an object model", describeJson(model));
  checkVocabulary(path, model.vocab);
  const added = definition.added_tokens ?? [];
  if (!Array.isArray(added)) throw new ModelError(path, "a list of added_tokens", describeJson(added));
  for (const token of added) {
    if (isJsonObject(token) && typeof token.content === "string" && token.content !== "" && isId(token.id)) continue;
    throw new ModelError(path, `added_tokens with content and an id up to ${LARGEST_ID}`, describeJson(token));
  }
  for (const key of ["normalizer", "pre_tokenizer", "post_processor", "decoder"]) {
    checkPart(path, key, definition[key] ?? null, 0);
  }
  return { ...definition, added_tokens: added, decoder: decoder === undefined ? null : withSuffix(decoder) };
}

/** Tokens that decoding leaves out. */
export function specialTokens(definition: JsonObject, config: JsonObject): ReadonlySet<string> {
  const added: unknown[] = Array.isArray(definition.added_tokens) ? definition.added_tokens : [];
  const more: unknown[] = Array.isArray(config.additional_special_tokens) ? config.additional_special_tokens : [];
  const special = added
    .filter((token) => isJsonObject(token) && token.special === true)
    .map((token) => {
      return isJsonObject(token) ? token.content : undefined;
    });
  return new Set([...special, ...more].filter((token) => typeof token === "string"));
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= LARGEST_ID;
}

function checkVocabulary(path: string, vocabulary: unknown): void {
  if (Array.isArray(vocabulary)) {
    const isPiece = (piece: unknown): boolean =>
      Array.isArray(piece) && typeof piece[0] === "string" && typeof piece[1] === "number";
    const wrong = vocabulary.find((piece) => !isPiece(piece));
    if (wrong !== undefined) throw new ModelError(path, "pieces and their scores in model.vocab", describeJson(wrong));
    return;
  }
  if (!isJsonObject(vocabulary)) throw new ModelError(path, "an object model.vocab", describeJson(vocabulary));
  const seen = new Map<number, string>();
  for (const [token, id] of Object.entries(vocabulary)) {
    const name = describeJson(token);
    if (!isId(id)) throw new ModelError(path, `an id up to ${LARGEST_ID} of ${name} in model.vocab`, describeJson(id));
    const other = seen.get(id);
    if (other !== undefined) {
      throw new ModelError(path, `ids of their own in model.vocab`, `${id} of ${describeJson(other)} and of ${name}`);
    }
    seen.set(id, token);
  }
}

/** Looks through a normalizer, pre_tokenizer, post_processor or decoder, whose parts may be lists of parts. */
function checkPart(path: string, key: string, part: unknown, depth: number): void {
  if (part === null) return;
  if (!isJsonObject(part) || typeof part.type !== "string") {
    throw new ModelError(path, `${key} to be null or an object with a type`, describeJson(part));
  }
  if (depth > 8) throw new ModelError(path, `${key} nested up to 8 deep`, "a deeper one");
  if (part.type === "CTC") throw new ModelError(path, `a ${key} of text`, "CTC, for speech");
  if (part.type === "FixedLength" && !(typeof part.length === "number" && part.length >= 1)) {
    throw new ModelError(path, `${key}.length of at least 1`, describeJson(part.length));
  }
  for (const list of [part.normalizers, part.pretokenizers, part.processors, part.decoders]) {
    if (list === undefined) continue;
    if (!Array.isArray(list)) throw new ModelError(path, `lists of parts in ${key}`, describeJson(list));
    for (const inner of list) checkPart(path, key, inner, depth + 1);
  }
}

/** A BPEDecoder's suffix has a default in Hugging Face's tokenizers. */
function withSuffix(decoder: unknown): unknown {
  if (!isJsonObject(decoder)) return decoder;
  return decoder.type === "BPEDecoder" ? { ...decoder, suffix: decoder.suffix ?? "</w>" } : decoder;
}
