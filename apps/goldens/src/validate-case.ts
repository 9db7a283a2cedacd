import { attentionSettings } from "./attention-settings.ts";
import { packLengths, padField } from "./pack-settings.ts";
import { correctBase } from "./check-correct.ts";
import { type ReferenceCase, ReferenceFileError } from "./reference-file.ts";

/** Sizes of a tensor's dimensions. */
type Shape = readonly number[];

const FLOATS = ["F32", "F16", "BF16"];
const RESULTS = ["F32", "F64"];

/**
 * Throws unless a case has exactly the tensors that its kind needs, each of the dtype and shape that follow from the
 * inputs and from the case's fields, and something to compare. Reads no elements but lengths.
 */
export function validateCase(reference: ReferenceCase): void {
  if (reference.kind === "correct") validateCorrect(reference);
  else if (reference.kind === "pack") validatePack(reference);
  else validateAttention(reference);
}

function validateCorrect(reference: ReferenceCase): void {
  expectNames(reference, ["out", "lses", "corrected", "lse"]);
  correctBase(reference);
  const out = stored(reference, "out", FLOATS, [null, null, null, null]);
  const [ranks = 0, batch = 0, heads = 0, dim = 0] = out.shape;
  expectSizes(reference, { N: ranks, B: batch, H: heads, D: dim });
  expectDType(reference, [out.typeName]);
  stored(reference, "lses", ["F32"], [ranks, batch, heads]);
  stored(reference, "corrected", [out.typeName], out.shape);
  stored(reference, "lse", RESULTS, [batch, heads]);
  expectElements(reference, out.shape);
}

function validatePack(reference: ReferenceCase): void {
  expectNames(reference, ["x", "packed", "unpacked"], ["lengths"]);
  padField(reference);
  const { file, id } = reference;
  const { typeName, shape } = file.stored(`${id}.x`);
  file.info(`${id}.x`);
  if (shape.length === 0) {
    throw new ReferenceFileError(file.path, `expected ${id}.x to be of at least one dimension`);
  }
  if (file.has(`${id}.lengths`)) stored(reference, "lengths", ["I32", "I64"], [null]);
  const lengths = packLengths(reference);
  const sum = lengths.reduce((total, length) => total + length, 0);
  const [rows = 0, ...columns] = shape;
  const isWhole = lengths.every((length) => Number.isSafeInteger(length) && length >= 0);
  if (!isWhole || sum > rows) {
    const expected = `lengths of ${id} to be non-negative integers that sum to at most the ${rows} rows of x`;
    throw new ReferenceFileError(file.path, `expected ${expected}`);
  }
  const { feat } = reference.fields;
  if (feat !== undefined && JSON.stringify(feat) !== JSON.stringify(columns)) {
    throw new ReferenceFileError(file.path, `expected ${id}.x to be of the shape that \`feat\` says`);
  }
  expectSizes(reference, { B: lengths.length });
  expectDType(reference, [typeName]);
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
  stored(reference, "packed", [typeName], [lengths.length, longest, ...columns]);
  stored(reference, "unpacked", [typeName], [sum, ...columns]);
  expectElements(reference, [sum, ...columns]);
}

function validateAttention(reference: ReferenceCase): void {
  expectNames(reference, ["q", "k", "out", "lse"], ["v", "sinks"]);
  const { file, id } = reference;
  const query = stored(reference, "q", [...FLOATS, "F8_E4M3"], [null, null, null]);
  const [, heads = 0, keyDim = 0] = query.shape;
  const key = stored(reference, "k", [...FLOATS, "F8_E4M3", "I8"], [null, null, keyDim]);
  const [keys = 0, kvHeads = 0] = key.shape;
  const hasValues = file.has(`${id}.v`);
  const { lengths, queries } = attentionSettings(reference, file.info(`${id}.k`).dtype, kvHeads, hasValues);
  const rows = queries.reduce((sum, count) => sum + count, 0);
  stored(reference, "q", [query.typeName], [rows, heads, keyDim]);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  stored(reference, "k", [key.typeName], [total, kvHeads, keyDim]);
  if (kvHeads === 0 || heads % kvHeads !== 0) {
    throw new ReferenceFileError(
      file.path,
      `expected the ${heads} query heads of ${id} to share its ${kvHeads} KV heads`,
    );
  }
  const value = hasValues ? stored(reference, "v", [key.typeName], [keys, kvHeads, null]) : undefined;
  // Only the result tells how many columns of the keys are the values of MLA.
  const out = stored(reference, "out", RESULTS, [rows, heads, value?.shape[2] ?? null]);
  const valueDim = out.shape[2] ?? 0;
  if (value === undefined && valueDim > keyDim) {
    throw new ReferenceFileError(file.path, `expected ${id}.v, or an ${id}.out of at most the keys' ${keyDim} columns`);
  }
  stored(reference, "lse", RESULTS, [rows, heads]);
  if (file.has(`${id}.sinks`)) {
    stored(reference, "sinks", [...FLOATS, "F64"], [heads]);
    if ((reference.fields.sinks ?? undefined) !== undefined) {
      throw new ReferenceFileError(file.path, `expected \`sinks\` of ${id} as a tensor or as a field, not both`);
    }
  }
  expectSizes(reference, { B: lengths.length, Hq: heads, Hkv: kvHeads, Dk: keyDim, Dv: valueDim });
  expectDType(reference, [query.typeName, key.typeName]);
  expectElements(reference, out.shape);
}

/** Throws unless a case has these tensors, and no others than the optional ones. */
function expectNames({ file, id }: ReferenceCase, required: readonly string[], optional: readonly string[] = []): void {
  for (const name of required) {
    if (!file.has(`${id}.${name}`)) {
      throw new ReferenceFileError(file.path, `expected ${id} to have a tensor ${id}.${name}, but found none`);
    }
  }
  const known = new Set([...required, ...optional].map((name) => `${id}.${name}`));
  const other = file.names.find((name) => name.startsWith(`${id}.`) && !known.has(name));
  if (other === undefined) return;
  throw new ReferenceFileError(file.path, `expected ${id} to have only ${[...known].join(", ")}, but found ${other}`);
}

/** A tensor's dtype and shape; throws unless they are as expected (`null` takes any size). */
function stored(
  { file, id }: ReferenceCase,
  name: string,
  typeNames: readonly string[],
  shape: readonly (number | null)[],
): { readonly typeName: string; readonly shape: Shape } {
  const found = file.stored(`${id}.${name}`);
  const agrees =
    found.shape.length === shape.length && shape.every((size, dim) => size === null || size === found.shape[dim]);
  if (agrees && typeNames.includes(found.typeName)) return found;
  const wanted = `${typeNames.join(" or ")} [${shape.map((size) => size ?? "any").join(", ")}]`;
  const got = `${found.typeName} [${found.shape.join(", ")}]`;
  throw new ReferenceFileError(file.path, `expected ${id}.${name} to be ${wanted}, but found ${got}`);
}

/** Throws unless the sizes that a case's fields name are those of its tensors. */
function expectSizes({ file, id, fields }: ReferenceCase, sizes: Readonly<Record<string, number>>): void {
  for (const [name, size] of Object.entries(sizes)) {
    const field = fields[name] ?? undefined;
    if (field === undefined || field === size) continue;
    const found = typeof field === "number" ? String(field) : "something else";
    throw new ReferenceFileError(
      file.path,
      `expected \`${name}\` of ${id} to be ${size} as in its tensors, but found ${found}`,
    );
  }
}

const TYPE_OF_FIELD: ReadonlyMap<unknown, string> = new Map([
  ["float32", "F32"],
  ["float16", "F16"],
  ["bfloat16", "BF16"],
  ["float8_e4m3fn", "F8_E4M3"],
  ["int8", "I8"],
  ["uint8", "U8"],
  ["int32", "I32"],
]);

/** Throws when a case's field `dtype` names another dtype than its inputs have. */
function expectDType({ file, id, fields }: ReferenceCase, typeNames: readonly string[]): void {
  const wanted = TYPE_OF_FIELD.get(fields.dtype);
  if (wanted === undefined || typeNames.includes(wanted)) return;
  throw new ReferenceFileError(
    file.path,
    `expected inputs of ${id} in ${wanted} as \`dtype\` says, but found ${typeNames.join(", ")}`,
  );
}

/** Throws when there is nothing to compare. */
function expectElements({ file, id }: ReferenceCase, shape: Shape): void {
  if (!shape.includes(0)) return;
  throw new ReferenceFileError(
    file.path,
    `expected ${id} to have results to compare, but found shape [${shape.join(", ")}]`,
  );
}
