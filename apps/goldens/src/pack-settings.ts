import { numberList, type ReferenceCase, ReferenceFileError } from "./reference-file.ts";

/**
 * Lengths of the sequences of a `pack` case, from the tensor or the field of that name, which agree where both are
 * there.
 */
export function packLengths(reference: ReferenceCase): readonly number[] {
  const { file, id, fields } = reference;
  if (!file.has(`${id}.lengths`)) return numberList(reference, "lengths");
  const lengths = [...file.readNumbers(`${id}.lengths`)];
  if (fields.lengths !== undefined && JSON.stringify(fields.lengths) !== JSON.stringify(lengths)) {
    throw new ReferenceFileError(file.path, `expected the tensor ${id}.lengths and the field \`lengths\` to agree`);
  }
  return lengths;
}

/** What fills the rows beyond each length. */
export function padField({ file, id, fields }: ReferenceCase): number {
  const pad = fields.pad ?? "-inf";
  if (pad === "-inf") return Number.NEGATIVE_INFINITY;
  if (pad === "inf") return Number.POSITIVE_INFINITY;
  const value = typeof pad === "number" || (typeof pad === "string" && pad.trim() !== "") ? Number(pad) : Number.NaN;
  if (Number.isNaN(value))
    throw new ReferenceFileError(file.path, `expected \`pad\` of ${id} to be a number or "-inf"`);
  return value;
}
