// The parts of tokenizer.json: what Hugging Face's `tokenizers` asks of each, and what of it @huggingface/tokenizers
// does otherwise.
import { ModelError } from "../errors.ts";
import { describeJson, isJsonObject, type JsonObject } from "./json-file.ts";

export type PartKind = "normalizer" | "pre_tokenizer" | "post_processor" | "decoder";

const LISTS = {
  normalizer: "normalizers",
  pre_tokenizer: "pretokenizers",
  post_processor: "processors",
  decoder: "decoders",
} as const satisfies Record<PartKind, string>;

const DEEPEST = 8;

type Field = readonly [name: string, isRight: (value: unknown) => boolean, expected: string];

const isText = (value: unknown): value is string => typeof value === "string";
const isFlag = (value: unknown): boolean => typeof value === "boolean";
const isAbsentOr = (isRight: (value: unknown) => boolean) => (value: unknown) =>
  value === undefined || value === null || isRight(value);
const isCount = (value: unknown): value is number => typeof value === "number" && Number.isInteger(value) && value >= 0;

/** One of {"String": text} and {"Regex": text}. */
function isPattern(value: unknown): boolean {
  if (!isJsonObject(value)) return false;
  const [kind, ...more] = Object.keys(value);
  return (kind === "String" || kind === "Regex") && more.length === 0 && isText(value[kind]);
}

const PATTERN: Field = ["pattern", isPattern, 'of the form {"String": text} or {"Regex": text}'];
const CONTENT: Field = ["content", isText, "a text"];
const REPLACEMENT: Field = [
  "replacement",
  isAbsentOr((value) => isText(value) && [...value].length === 1),
  "a character",
];
const SCHEME: Field = [
  "prepend_scheme",
  isAbsentOr((value) => value === "always" || value === "first" || value === "never"),
  '"always", "first" or "never"',
];

/** Fields that have to be there, by kind and type. Other types have none, or some with defaults. */
const FIELDS: Readonly<Record<PartKind, Readonly<Record<string, readonly Field[]>>>> = {
  normalizer: {
    Replace: [PATTERN, CONTENT],
    Prepend: [["prepend", isText, "a text"]],
    Strip: [
      ["strip_left", isFlag, "true or false"],
      ["strip_right", isFlag, "true or false"],
    ],
    Precompiled: [["precompiled_charsmap", isText, "a text"]],
  },
  pre_tokenizer: {
    Split: [
      PATTERN,
      ["invert", isAbsentOr(isFlag), "true or false"],
      [
        "behavior",
        (value) => value === "Removed" || value === "Isolated",
        '"Removed" or "Isolated", which are supported',
      ],
    ],
    // @huggingface/tokenizers leaves runs of punctuation whole, whatever the behaviour.
    Punctuation: [["behavior", (value) => value === "Contiguous", '"Contiguous", which is supported']],
    Digits: [["individual_digits", isAbsentOr(isFlag), "true or false"]],
    Metaspace: [REPLACEMENT, SCHEME],
    FixedLength: [["length", (value) => isCount(value) && value >= 1, "at least 1"]],
  },
  post_processor: {},
  decoder: {
    Replace: [PATTERN, CONTENT],
    Strip: [CONTENT, ["start", isCount, "a whole number"], ["stop", isCount, "a whole number"]],
    WordPiece: [["prefix", isText, "a text"]],
    Metaspace: [REPLACEMENT, SCHEME],
  },
};

/** More than any tokenizer's; what would take for ever, and all memory, is far beyond. */
const MOST_TIMES_LONGER = 65536;

/** How many times longer a part makes a text at most, as when each character is replaced; Infinity for one too deep. */
function lengthens(kind: PartKind, part: unknown, depth = 0): number {
  if (!isJsonObject(part)) return 1;
  if (depth > DEEPEST) return Number.POSITIVE_INFINITY;
  const list = part[LISTS[kind]];
  let times = 1;
  for (const inner of Array.isArray(list) ? list : []) times *= lengthens(kind, inner, depth + 1);
  const { type, content, prepend, pattern } = part;
  if (type === "Replace" && isText(content)) times *= Math.max(1, content.length + (findsNothing(pattern) ? 1 : 0));
  if (type === "Prepend" && isText(prepend)) times *= 1 + prepend.length;
  return times;
}

/** True for a pattern that is found where there is nothing: beside every character. */
function findsNothing(pattern: unknown): boolean {
  if (!isJsonObject(pattern)) return false;
  if (!isText(pattern.Regex)) return pattern.String === "";
  try {
    return new RegExp(pattern.Regex, "u").test("");
  } catch {
    return true;
  }
}

/**
 * Checks a normalizer, pre_tokenizer, post_processor or decoder, whose parts may be lists of parts. Returns one that
 * @huggingface/tokenizers understands as `tokenizers` does. @throws ModelError for one that it cannot
 */
export function checkedPart(path: string, kind: PartKind, part: unknown, depth = 0): JsonObject | null {
  if (part === null) return null;
  if (depth === 0 && lengthens(kind, part) > MOST_TIMES_LONGER) {
    throw new ModelError(path, `a ${kind} that makes a text at most ${MOST_TIMES_LONGER} times longer`, "another");
  }
  if (!isJsonObject(part) || !isText(part.type)) {
    throw new ModelError(path, `${kind} to be null or an object with a type`, describeJson(part));
  }
  if (depth > DEEPEST) throw new ModelError(path, `${kind} nested up to ${DEEPEST} deep`, "a deeper one");
  const { type } = part;
  if (type === "CTC") throw new ModelError(path, `a ${kind} of text`, "CTC, for speech");
  const fields = Object.hasOwn(FIELDS[kind], type) ? FIELDS[kind][type] : undefined;
  for (const [name, isRight, expected] of fields ?? []) {
    if (isRight(part[name])) continue;
    throw new ModelError(path, `${name} of the ${kind} ${type} to be ${expected}`, describeJson(part[name]));
  }
  if (kind === "pre_tokenizer" && type === "Split" && part.invert === true && part.behavior !== "Removed") {
    throw new ModelError(
      path,
      'an inverted Split of behavior "Removed", which is supported',
      describeJson(part.behavior),
    );
  }
  const list = LISTS[kind];
  if (type === "Sequence" && part[list] === undefined) {
    throw new ModelError(path, `${list} in a Sequence of ${kind}`, "none");
  }
  if (part[list] === undefined) return adapted(kind, part);
  const inner = part[list];
  if (!Array.isArray(inner)) throw new ModelError(path, `lists of parts in ${kind}`, describeJson(inner));
  return { ...part, [list]: inner.map((one) => checkedPart(path, kind, one, depth + 1)) };
}

/** The same part, said so that @huggingface/tokenizers does what `tokenizers` does. */
function adapted(kind: PartKind, part: JsonObject): JsonObject {
  const { type, content } = part;
  // It takes $ in what replaces for a group of the pattern.
  if (type === "Replace" && isText(content)) return { ...part, content: content.replaceAll("$", "$$$$") };
  // The suffix has a default, which it lacks.
  if (kind === "decoder" && type === "BPEDecoder") return { ...part, suffix: part.suffix ?? "</w>" };
  if (type !== "Metaspace") return part;
  // The old name of the scheme, which it does not read.
  const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? "never" : "always");
  if (kind === "pre_tokenizer") return { ...part, prepend_scheme: scheme };
  // It always drops the space that was put before a text.
  const pattern = { String: part.replacement ?? "\u2581" };
  return scheme === "never" ? { type: "Replace", pattern, content: " " } : part;
}

/**
 * Refuses a Metaspace that splits words which the vocabulary has tokens over: @huggingface/tokenizers does not split
 * there.
 * @throws ModelError
 */
export function checkMetaspaceSplit(path: string, preTokenizer: JsonObject | null, tokens: Iterable<string>): void {
  const parts = preTokenizer?.type === "Sequence" ? preTokenizer.pretokenizers : [preTokenizer];
  for (const part of Array.isArray(parts) ? parts : []) {
    if (!isJsonObject(part) || part.type !== "Metaspace" || part.split === false) continue;
    const mark = isText(part.replacement) ? part.replacement : "\u2581";
    for (const token of tokens) {
      if (token.lastIndexOf(mark) <= 0) continue;
      throw new ModelError(path, `no token over two words with a Metaspace that splits`, describeJson(token));
    }
  }
}

/** Decoders behind which there is one text, and no tokens any more. */
const JOINING: readonly unknown[] = ["Fuse", "ByteLevel"];

/**
 * True when a decoder may change the text of tokens by those that come later: where it replaces more than a character
 * at a time in what was joined.
 */
export function replacesAcrossTokens(decoder: unknown): boolean {
  const parts = innermost(decoder);
  const joined = parts.findIndex(({ type }) => JOINING.includes(type));
  if (joined === -1) return false;
  return parts.slice(joined).some(({ type, pattern }) => {
    const found = isJsonObject(pattern) && isText(pattern.String) ? pattern.String : undefined;
    return type === "Replace" && (found === undefined || [...found].length !== 1);
  });
}

/** The parts of a decoder in the order in which they run. */
function innermost(decoder: unknown): readonly JsonObject[] {
  if (!isJsonObject(decoder)) return [];
  return Array.isArray(decoder.decoders) ? decoder.decoders.flatMap(innermost) : [decoder];
}
