import type { KvScales } from "@lockstep/attention";
import { isQuantised, type LseBase } from "@lockstep/kernels";
import type { DType } from "@lockstep/tensor";
import { numberField, numberList, type ReferenceCase, ReferenceFileError } from "./reference-file.ts";

/** What the fields of an `attention` case say. */
export interface AttentionSettings {
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** Query tokens of each sequence. */
  readonly queries: readonly number[];
  readonly scale: number | undefined;
  readonly softcap: number | undefined;
  readonly window: number | undefined;
  /** Of the cache. */
  readonly kvDtype: DType;
  /** Of a quantised cache. */
  readonly kvScales: KvScales | undefined;
  readonly lseBase: LseBase;
}

/** Reads a case's fields. `keys` is the dtype its keys come in. @throws ReferenceFileError */
export function attentionSettings(
  reference: ReferenceCase,
  keys: DType,
  kvHeads: number,
  hasValues: boolean,
): AttentionSettings {
  const lengths = counts(reference, "lens");
  const hasQueries = (reference.fields.queries ?? undefined) !== undefined;
  const queries = hasQueries ? counts(reference, "queries") : lengths.map(() => 1);
  const fits = (count: number, at: number): boolean => count <= Math.max(1, lengths[at] ?? 0);
  if (queries.length !== lengths.length || !queries.every(fits)) {
    const expected = `\`queries\` of ${reference.id} to be one number for each of \`lens\`, and at most that`;
    throw new ReferenceFileError(reference.file.path, `expected ${expected}`);
  }
  const window = numberField(reference, "window");
  if (window !== undefined && !(Number.isInteger(window) && window >= 1 && window < 2 ** 31)) {
    throw new ReferenceFileError(
      reference.file.path,
      `expected \`window\` of ${reference.id} to be a positive integer`,
    );
  }
  for (const name of ["softcap", "q_scale"]) {
    if (!((numberField(reference, name) ?? 1) > 0)) {
      throw new ReferenceFileError(reference.file.path, `expected \`${name}\` of ${reference.id} to be positive`);
    }
  }
  const kvDtype = cacheDtype(reference, keys);
  if (isQuantised(keys) && kvDtype !== keys) {
    throw new ReferenceFileError(
      reference.file.path,
      `expected \`kv_dtype\` of ${reference.id} to be ${keys}, as its keys`,
    );
  }
  const hasScales = reference.fields.k_scale !== undefined || reference.fields.v_scale !== undefined;
  if (hasScales && !isQuantised(kvDtype)) {
    const expected = `${reference.id}, whose cache is ${kvDtype}, to have no \`k_scale\` and no \`v_scale\``;
    throw new ReferenceFileError(reference.file.path, `expected ${expected}`);
  }
  return {
    lengths,
    queries,
    scale: numberField(reference, "scale"),
    softcap: numberField(reference, "softcap"),
    window,
    kvDtype,
    kvScales: isQuantised(kvDtype) ? readKvScales(reference, kvHeads, hasValues) : undefined,
    lseBase: lseBase(reference),
  };
}

/** A list of non-negative integers. */
function counts(reference: ReferenceCase, name: string): number[] {
  const list = numberList(reference, name);
  if (list.length > 0 && list.every((count) => Number.isSafeInteger(count) && count >= 0)) return list;
  const expected = `\`${name}\` of ${reference.id} to be a list of non-negative integers`;
  throw new ReferenceFileError(reference.file.path, `expected ${expected}`);
}

/** The cache's dtype: the field `kv_dtype`, else what the keys come in. */
function cacheDtype(reference: ReferenceCase, keys: DType): DType {
  const field = reference.fields.kv_dtype ?? keys;
  const names: ReadonlyMap<string, DType> = new Map([
    ["f32", "f32"],
    ["float32", "f32"],
    ["f16", "f16"],
    ["float16", "f16"],
    ["bf16", "bf16"],
    ["bfloat16", "bf16"],
    ["f8e4m3", "f8e4m3"],
    ["fp8", "f8e4m3"],
    ["fp8_e4m3", "f8e4m3"],
    ["float8_e4m3fn", "f8e4m3"],
    ["i8", "i8"],
    ["int8", "i8"],
  ]);
  const dtype = typeof field === "string" ? names.get(field) : undefined;
  if (dtype !== undefined) return dtype;
  const known = [...names.keys()].join(", ");
  throw new ReferenceFileError(reference.file.path, `expected \`kv_dtype\` of ${reference.id} to be one of ${known}`);
}

function readKvScales(reference: ReferenceCase, kvHeads: number, hasValues: boolean): KvScales {
  const { file, id, fields } = reference;
  const read = (name: string): number | readonly number[] => {
    const given = fields[name];
    if (given === undefined) {
      throw new ReferenceFileError(file.path, `expected ${id}, whose cache is quantised, to have \`${name}\``);
    }
    const list = typeof given === "number" ? [given] : numberList(reference, name);
    const isPositive = list.every((scale) => Number.isFinite(scale) && scale > 0);
    if (!isPositive || (list.length !== 1 && list.length !== kvHeads)) {
      const expected = `a positive number, or a list of ${kvHeads}, one for each KV head`;
      throw new ReferenceFileError(file.path, `expected \`${name}\` of ${id} to be ${expected}`);
    }
    return typeof given === "number" ? given : list;
  };
  return hasValues ? { key: read("k_scale"), value: read("v_scale") } : { key: read("k_scale") };
}

function lseBase(reference: ReferenceCase): LseBase {
  const base = reference.fields.lse_base ?? "e";
  if (base === "e" || base === "2") return base;
  throw new ReferenceFileError(reference.file.path, `expected \`lse_base\` of ${reference.id} to be "e" or "2"`);
}
