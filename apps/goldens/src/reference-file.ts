import { LockstepError, registerErrorClass, type SafetensorsFile } from "@lockstep/tensor";

/** A reference file that is not one: no cases, tensors missing, or case fields of the wrong kind. */
export class ReferenceFileError extends LockstepError {
  static {
    registerErrorClass("ReferenceFileError", ReferenceFileError);
  }

  readonly _tag = "ReferenceFileError";

  constructor(path: string, problem: string) {
    super(`${path}: ${problem}. docs/goldens.md specifies the format.`);
  }
}

/** What a file's cases check, known by the prefix of its tensors: `c0.`, `p0.` or `a0.`. */
export type ReferenceKind = "correct" | "pack" | "attention";

const KIND_OF_PREFIX: ReadonlyMap<string, ReferenceKind> = new Map([
  ["c", "correct"],
  ["p", "pack"],
  ["a", "attention"],
]);

/** One case: its fields in the metadata, and its tensors by name. */
export interface ReferenceCase {
  readonly kind: ReferenceKind;
  readonly file: SafetensorsFile;
  /** Prefix of its tensors, such as `a3`. */
  readonly id: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** `c0.out`: the letter of the kind, the case's number, what it is. */
const TENSOR_NAME = /^([cpa])(0|[1-9]\d{0,8})\.\w+$/;

/**
 * Reads the list of cases of a reference file. Every tensor belongs to one. @throws ReferenceFileError,
 * SafetensorsError
 */
export function readCases(file: SafetensorsFile): ReferenceCase[] {
  const kinds = new Set(file.names.map((name) => KIND_OF_PREFIX.get(TENSOR_NAME.exec(name)?.[1] ?? "")));
  const [kind] = kinds;
  if (kinds.size !== 1 || kind === undefined) {
    throw new ReferenceFileError(file.path, "expected tensors named c0.*, p0.* or a0.*, all of one kind");
  }
  let list: unknown;
  try {
    list = JSON.parse(file.metadata.cases ?? "");
  } catch {
    throw new ReferenceFileError(file.path, "expected a metadata entry `cases` with a JSON list");
  }
  if (!Array.isArray(list) || list.length === 0) {
    throw new ReferenceFileError(file.path, "expected `cases` to be a list of one or more cases");
  }
  const ids = new Set<string>();
  const cases = list.map((fields: unknown, index) => {
    if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
      throw new ReferenceFileError(file.path, `expected case ${index} to be an object`);
    }
    const record = { ...fields } as Record<string, unknown>;
    const number = record.case ?? index;
    if (!Number.isSafeInteger(number) || Number(number) < 0) {
      throw new ReferenceFileError(file.path, `expected \`case\` of case ${index} to be a non-negative integer`);
    }
    const id = `${kind[0]}${number}`;
    if (ids.has(id)) throw new ReferenceFileError(file.path, `expected ${id} once in \`cases\`, but found it twice`);
    ids.add(id);
    return { kind, file, id, fields: record };
  });
  for (const name of file.names) {
    if (ids.has(name.slice(0, name.indexOf(".")))) continue;
    throw new ReferenceFileError(file.path, `expected a case for ${name} in \`cases\`, but found none`);
  }
  return cases;
}

/** A case's number field, or `fallback` when it has none. @throws ReferenceFileError for another kind of value */
export function numberField(reference: ReferenceCase, name: string, fallback?: number): number | undefined {
  const value = reference.fields[name] ?? fallback;
  if (value === undefined || (typeof value === "number" && Number.isFinite(value))) return value;
  throw new ReferenceFileError(reference.file.path, `expected \`${name}\` of ${reference.id} to be a number`);
}

/** A case's list of numbers. @throws ReferenceFileError when it is something else */
export function numberList(reference: ReferenceCase, name: string): number[] {
  const value = reference.fields[name];
  if (Array.isArray(value) && value.every((item) => typeof item === "number")) return value;
  throw new ReferenceFileError(reference.file.path, `expected \`${name}\` of ${reference.id} to be a list of numbers`);
}
