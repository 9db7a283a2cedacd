// Random damage to a model folder: it is loaded as what it is, or refused by one typed error of one line.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LockstepError } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { openModel } from "../src/model/model.ts";
import { StreamDecoder } from "../src/model/tokenizer.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import { MODEL_FOLDER } from "./shipped-folder.ts";
import { TOKENIZER_DEFINITIONS } from "./tokenizer-definitions.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const WILD: readonly string[] = [
  ..."null true -1 0 1 0.5 7 2000000 4294967296 1e15 1e308 -1e308 1e-46".split(" "),
  ...['""', '"x"', '"("', '"yarn"', '"__proto__"', '"toString"', "[]", "[[]]", "[0]", '["x"]', "[null]", "{}"],
  ...['{"toString":1}', '{"length":4294967296}', '{"__proto__":{"type":"x"}}', '{"String":""}', '{"Regex":"(a+)+$"}'],
  `${"[".repeat(3000)}${"]".repeat(3000)}`,
];

/** Names of parts of tokenizers, each of which may stand where another one should. */
const TYPES =
  "Sequence ByteLevel Metaspace Replace Split Strip Prepend Precompiled Punctuation Digits WhitespaceSplit Lowercase " +
  "NFKC BertNormalizer BertPreTokenizer BertProcessing RobertaProcessing TemplateProcessing WordPiece Unigram BPE " +
  "BPEDecoder CTC Fuse ByteFallback FixedLength";

/** What a damaged folder is asked to encode, besides a text of its own vocabulary. */
const TEXTS = ["A text, 1 of 2.", " ", "<s> naïve 日本 \u0000 a<unk>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"];

/** Whole folders of which one case damages one file each: a fuzz target. */
export class DamagedFolders {
  readonly #scratch = mkdtempSync(join(tmpdir(), "lockstep-damaged-folder-"));
  readonly #folders: string[] = [];

  constructor() {
    const forms = [{ isSharded: false }, { isSharded: true }];
    for (const [index, tokenizer] of [undefined, ...TOKENIZER_DEFINITIONS].entries()) {
      const folder = join(this.#scratch, `${index}`);
      const scaling = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 };
      const config = { hidden_size: 12, rope_parameters: scaling, tie_word_embeddings: true, eos_token_id: [0] };
      writeRandomCheckpoint(folder, "Qwen2ForCausalLM", config, forms[index % 2]);
      if (tokenizer !== undefined) writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
      for (const name of ["tokenizer_config.json", "generation_config.json"]) {
        cpSync(join(MODEL_FOLDER, name), join(folder, name));
      }
      openModel(folder);
      this.#folders.push(folder);
    }
  }

  /**
   * Runs one case; whether the damaged folder was loaded.
   * @throws Error when it ended in anything but a model or a typed error of one line
   */
  load(seed: number): boolean {
    const random = new RandomStream(seed);
    // The shipped tokenizer is large and slow: seldom.
    const folder = this.#folders[random.next() < 0.05 ? 0 : 1 + random.below(this.#folders.length - 1)] ?? "";
    const names = readdirSync(folder).sort();
    const name = pick(random, names);
    const path = join(folder, name);
    const whole = readFileSync(path);
    try {
      damage(path, whole, random);
      use(folder, random);
      return true;
    } catch (error) {
      const isRefusal = error instanceof LockstepError && error.message !== "" && !/[\r\n]/.test(error.message);
      if (isRefusal && error.message.length < 1000) return false;
      throw new Error(`seed ${seed}: damage to ${name}`, { cause: error });
    } finally {
      rmSync(path, { recursive: true, force: true });
      writeFileSync(path, whole);
    }
  }

  async run(seed: number): Promise<void> {
    this.load(seed);
  }

  close(): void {
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/** Opens the folder, and its tokenizer takes and gives text. */
function use(folder: string, random: RandomStream): void {
  const { tokenizer, config } = openModel(folder);
  for (const text of TEXTS) tokenizer.decode(tokenizer.encode(text));
  const stream = new StreamDecoder(tokenizer);
  for (let count = 0; count < 8; count++) stream.push(random.below(Math.min(config.vocabularySize, 48)));
  stream.end();
}

function damage(path: string, whole: Buffer, random: RandomStream): void {
  const kind = random.next();
  if (kind < 0.02) rmSync(path);
  else if (kind < 0.04) {
    rmSync(path);
    mkdirSync(path);
  } else if (kind < 0.08) writeFileSync(path, whole.subarray(0, random.below(whole.length)));
  else if (kind < 0.12) writeFileSync(path, flipped(whole, whole.length, random));
  else if (path.endsWith(".safetensors")) damageWeights(path, whole, random);
  else {
    let text = whole.toString("utf8");
    for (let count = 1 + random.below(2); count > 0; count--) text = changed(text, random);
    writeFileSync(path, text);
  }
}

/** The header's bytes, its digits (shapes, offsets), its length. */
function damageWeights(path: string, whole: Buffer, random: RandomStream): void {
  const header = 8 + Number(whole.readBigUInt64LE(0));
  const bytes = Buffer.from(whole);
  const kind = random.below(3);
  if (kind === 0) flipped(whole, header, random).copy(bytes);
  else if (kind === 1) {
    bytes.writeBigUInt64LE(BigInt(Math.floor(random.next() * 2 ** (8 * (1 + random.below(8))))) % 2n ** 64n, 0);
  } else {
    for (let count = 1 + random.below(3); count > 0; count--) {
      const start = 8 + random.below(header - 8);
      const at = bytes.subarray(start, header).findIndex((byte) => byte >= 48 && byte <= 57);
      if (at >= 0) bytes[start + at] = 48 + random.below(10);
    }
  }
  writeFileSync(path, bytes);
}

function flipped(whole: Buffer, end: number, random: RandomStream): Buffer {
  const bytes = Buffer.from(whole);
  for (let count = 1 + random.below(3); count > 0; count--) {
    const at = random.below(end);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
  }
  return bytes;
}

/** The text of a JSON object, in which one value is another one, moved or gone. */
function changed(text: string, random: RandomStream): string {
  const mark = "\u0001mark\u0001";
  const json = JSON.parse(text) as { [key: string]: Json };
  let at: Json[] | { [key: string]: Json } = json;
  for (;;) {
    const here = at as { [key: string]: Json };
    const keys: string[] = Object.keys(here);
    const key: string = pick(random, keys);
    const value: Json | undefined = here[key];
    const isInner = typeof value === "object" && value !== null && Object.keys(value).length > 0;
    if (isInner && random.next() < 0.75) {
      at = value;
      continue;
    }
    const kind = random.next();
    if (kind < 0.2 && !Array.isArray(at)) delete here[key];
    else if (kind < 0.3) here[pick(random, [...keys, "type", "constructor", "extra"])] = value ?? null;
    else if (kind < 0.5 && key === "type") here[key] = pick(random, TYPES.split(" "));
    else here[key] = mark;
    break;
  }
  return JSON.stringify(json).replace(JSON.stringify(mark), () => pick(random, WILD));
}

function pick<T>(random: RandomStream, list: readonly T[]): T {
  const picked = list[random.below(list.length)];
  if (picked === undefined) throw new Error("nothing to pick from");
  return picked;
}
