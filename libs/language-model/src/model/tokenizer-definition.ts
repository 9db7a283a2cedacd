import { ModelError } from "../errors.ts";
import { describeJson, isJsonObject, type JsonObject } from "./json-file.ts";
import { checkedPart, checkMetaspaceSplit, type PartKind } from "./tokenizer-parts.ts";

/** Ids beyond this are none that a table of embeddings has; those below cost little memory, used or not. */
const LARGEST_ID = 2 ** 24 - 1;

/**
 * Checks the parts of tokenizer.json that would otherwise be believed: ids, added tokens, and what may loop for ever.
 * Returns the definition, with a default that its reader lacks. @throws ModelError
 */
export function checkTokenizer(path: string, definition: JsonObject): JsonObject {
  const { model } = definition;
  if (!isJsonObject(model)) throw new ModelError(path, "an object model", describeJson(model));
  checkVocabulary(path, model.vocab);
  const added = definition.added_tokens ?? [];
  if (!Array.isArray(added)) throw new ModelError(path, "a list of added_tokens", describeJson(added));
  for (const token of added) {
    if (isJsonObject(token) && typeof token.content === "string" && token.content !== "" && isId(token.id)) continue;
    throw new ModelError(path, `added_tokens with content and an id up to ${LARGEST_ID}`, describeJson(token));
  }
  checkModelKind(path, model);
  const part = (kind: PartKind): JsonObject | null => checkedPart(path, kind, definition[kind] ?? null);
  const preTokenizer = part("pre_tokenizer");
  checkMetaspaceSplit(path, preTokenizer, tokensOf(model));
  return {
    ...definition,
    added_tokens: added,
    normalizer: part("normalizer"),
    pre_tokenizer: preTokenizer,
    post_processor: part("post_processor"),
    decoder: part("decoder"),
  };
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

/** The texts of a vocabulary that was checked. */
function tokensOf({ vocab }: JsonObject): readonly string[] {
  if (Array.isArray(vocab)) return vocab.map((piece: unknown) => (Array.isArray(piece) ? `${piece[0]}` : ""));
  return isJsonObject(vocab) ? Object.keys(vocab) : [];
}

/** Refuses models of a kind that is not read, or of which a setting is not. */
function checkModelKind(path: string, model: JsonObject): void {
  const { type, continuing_subword_prefix: prefix, dropout } = model;
  if (type !== undefined && type !== "BPE" && type !== "Unigram" && type !== "WordPiece") {
    throw new ModelError(path, 'model.type to be "BPE", "Unigram" or "WordPiece"', describeJson(type));
  }
  if (type !== "BPE") return;
  if (prefix !== undefined && prefix !== null && prefix !== "") {
    throw new ModelError(path, "no model.continuing_subword_prefix with BPE", describeJson(prefix));
  }
  if (dropout !== undefined && dropout !== null && dropout !== 0) {
    throw new ModelError(path, "no model.dropout, by which a text has no certain tokens", describeJson(dropout));
  }
}
