// Reads a corpus: the manifest, and the files whose digests it has. Nothing is computed before all of it is sound.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { SafetensorsFile } from "@lockstep/tensor";
import { CaseParameters } from "./case-parameters.ts";
import type { CorpusCase, ExpectedOutput, WrongOutputs } from "./corpus-case.ts";
import { CorpusError } from "./corpus-error.ts";
import { entriesOf, field, isObject, isTexts, type JsonObject } from "./json-fields.ts";
import { type OpName, OPS } from "./ops.ts";
import { TOLERANCES, type ToleranceName } from "./tolerances.ts";

/** The manifest's `format`. */
export const CORPUS_FORMAT = "lockstep-dcp-corpus";
/** The manifest's `version`. */
export const CORPUS_VERSION = 1;

/** A corpus that was read. */
export interface Corpus {
  readonly path: string;
  readonly cases: readonly CorpusCase[];
  /** What each named mistake is. */
  readonly mistakes: ReadonlyMap<string, string>;
}

/**
 * Reads and checks a corpus. @param path of its manifest; its files lie beside it
 * @throws CorpusError for what is missing, damaged or unknown, naming it; SafetensorsError for a malformed file
 */
export function readCorpus(path: string): Corpus {
  const manifest = readManifest(path);
  const expect = (name: string, value: unknown, expected: unknown): void => {
    if (JSON.stringify(value) === JSON.stringify(expected)) return;
    throw new CorpusError(path, `expected \`${name}\` to be ${JSON.stringify(expected)}, but found another`);
  };
  expect("format", field(manifest, "format"), CORPUS_FORMAT);
  expect("version", field(manifest, "version"), CORPUS_VERSION);
  // A verifier does not let the file say how far off is near enough.
  expect("tolerances", field(manifest, "tolerances"), TOLERANCES);
  const mistakes = readMistakes(path, field(manifest, "mistakes"));
  const files = readFiles(path, field(manifest, "files"));
  const list = field(manifest, "cases");
  if (!Array.isArray(list) || list.length === 0) throw new CorpusError(path, "expected `cases` to be a list of cases");
  expect("case_count", field(manifest, "case_count"), list.length);
  const names = new Set<string>();
  const cases = list.map((item: unknown, index): CorpusCase => {
    const each = readCase(path, item, index, files, mistakes);
    if (names.has(each.name)) throw new CorpusError(path, `expected one case ${each.name}, but found two`);
    names.add(each.name);
    return each;
  });
  expectAllUsed(path, files, cases);
  return { path, cases, mistakes };
}

function readManifest(path: string): JsonObject {
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new CorpusError(path, `expected JSON (${error instanceof Error ? error.message : "unreadable"})`);
  }
  if (isObject(manifest)) return manifest;
  throw new CorpusError(path, "expected a JSON object");
}

function readMistakes(path: string, value: unknown): ReadonlyMap<string, string> {
  const entries = isObject(value) ? entriesOf(value) : [];
  const mistakes = new Map<string, string>();
  for (const [name, text] of entries) if (typeof text === "string") mistakes.set(name, text);
  if (mistakes.size > 0 && mistakes.size === entries.length) return mistakes;
  throw new CorpusError(path, "expected `mistakes` to be an object of texts");
}

/** Opens the files, in memory: what was digested is what is read. */
function readFiles(path: string, value: unknown): ReadonlyMap<string, SafetensorsFile> {
  if (!isObject(value)) throw new CorpusError(path, "expected `files` to be an object");
  return new Map(
    entriesOf(value).map(([name, sums]) => {
      if (basename(name) !== name || !name.endsWith(".safetensors")) {
        throw new CorpusError(path, `expected \`files\` to name safetensors files beside it, but found ${name}`);
      }
      const beside = join(dirname(path), name);
      if (!existsSync(beside)) throw new CorpusError(beside, "expected this file of the corpus, but found none");
      const bytes = readFileSync(beside);
      const [count, digest] = isObject(sums) ? [field(sums, "bytes"), field(sums, "sha256")] : [];
      if (bytes.length !== count) throw new CorpusError(beside, `expected ${count} bytes, but found ${bytes.length}`);
      const found = createHash("sha256").update(bytes).digest("hex");
      if (found !== digest) throw new CorpusError(beside, `expected SHA-256 ${digest}, but found ${found}`);
      return [name, SafetensorsFile.from(new Uint8Array(bytes), beside)];
    }),
  );
}

function readCase(
  path: string,
  item: unknown,
  index: number,
  files: ReadonlyMap<string, SafetensorsFile>,
  mistakes: ReadonlyMap<string, string>,
): CorpusCase {
  const name = isObject(item) ? field(item, "name") : undefined;
  if (!isObject(item) || typeof name !== "string") {
    throw new CorpusError(path, `expected case ${index} to be an object with a name`);
  }
  const fail = (problem: string): CorpusError => new CorpusError(path, `expected ${problem} of ${name}`);
  const op = opNamed(field(item, "op"));
  if (op === undefined) throw fail(`one of the ops ${Object.keys(OPS).join(", ")}, not ${String(field(item, "op"))},`);
  const file = files.get(String(field(item, "file")));
  if (file === undefined) throw fail("a `file` that is listed in `files`");
  const tensors = (value: unknown, what: string): ReadonlyMap<string, string> => {
    if (!isObject(value)) throw fail(`\`${what}\` to be an object, as`);
    const map = new Map<string, string>();
    for (const [part, tensor] of entriesOf(value)) {
      if (typeof tensor !== "string" || !file.has(tensor)) throw fail(`a tensor in ${file.path} for ${what} ${part}`);
      map.set(part, tensor);
    }
    return map;
  };
  const parameters = field(item, "parameters");
  if (!isObject(parameters)) throw fail("`parameters` to be an object, as");
  const refuse = field(item, "refuse");
  if (refuse !== undefined && (typeof refuse !== "string" || field(item, "outputs") !== undefined)) {
    throw fail("`refuse` to be a text, and no outputs beside it, as");
  }
  const outputs = new Map<string, ExpectedOutput>();
  const given = field(item, "outputs") ?? {};
  if (!isObject(given)) throw fail("`outputs` to be an object, as");
  for (const [part, output] of entriesOf(given)) {
    const tolerance = isObject(output) ? toleranceNamed(field(output, "tolerance")) : undefined;
    if (!isObject(output) || tolerance === undefined) throw fail(`a known tolerance for ${part}`);
    const tensor = tensors({ [part]: field(output, "tensor") }, "outputs").get(part) ?? "";
    outputs.set(part, { tensor, tolerance });
  }
  if (refuse === undefined && outputs.size === 0) throw fail("outputs");
  const wrong = readWrong(field(item, "wrong") ?? [], mistakes, tensors);
  if (wrong === undefined) throw fail("`wrong` to be a list of known mistakes and their outputs, as");
  return {
    name,
    op,
    file,
    parameters: new CaseParameters(path, name, parameters),
    inputs: tensors(field(item, "inputs"), "inputs"),
    outputs,
    wrong,
    refuse,
  };
}

function readWrong(
  value: unknown,
  known: ReadonlyMap<string, string>,
  tensors: (value: unknown, what: string) => ReadonlyMap<string, string>,
): WrongOutputs[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const wrong: WrongOutputs[] = [];
  for (const item of value as readonly unknown[]) {
    const mistakes = isObject(item) ? field(item, "mistakes") : undefined;
    if (!isObject(item) || !isTexts(mistakes) || !mistakes.every((mistake) => known.has(mistake))) return undefined;
    wrong.push({ mistakes, outputs: tensors(field(item, "outputs"), "wrong outputs") });
  }
  return wrong;
}

/** Throws when a file has a tensor that no case names: it would never be compared. */
function expectAllUsed(path: string, files: ReadonlyMap<string, SafetensorsFile>, cases: readonly CorpusCase[]): void {
  const used = new Map([...files.values()].map((file) => [file, new Set<string>()]));
  for (const { file, inputs, outputs, wrong } of cases) {
    const names = used.get(file);
    for (const tensor of inputs.values()) names?.add(tensor);
    for (const { tensor } of outputs.values()) names?.add(tensor);
    for (const each of wrong) for (const tensor of each.outputs.values()) names?.add(tensor);
  }
  for (const [file, names] of used) {
    const other = file.names.find((name) => !names.has(name));
    if (other !== undefined) throw new CorpusError(path, `expected a case for ${other} of ${file.path}, found none`);
  }
}

function opNamed(value: unknown): OpName | undefined {
  return Object.keys(OPS).find((name): name is OpName => name === value);
}

function toleranceNamed(value: unknown): ToleranceName | undefined {
  return Object.keys(TOLERANCES).find((name): name is ToleranceName => name === value);
}
