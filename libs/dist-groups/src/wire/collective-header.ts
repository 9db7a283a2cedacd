// A header says what its rank is about to do. Ranks compare them before they move data:
//
//   0 signature: op | dtype << 8 | fold << 12 | dim or root << 16 | dimensions << 24      compared
//   1 flags: what this rank's data looks like                                                  not compared
//   2 ...  shape, one word per dimension                                                       compared
//
// A header is written where it differs from what is there: a program that repeats its collectives leaves the lines in
// its peers' caches, and the comparison costs no traffic. The sequence number is not part of it: ranks whose progress
// words agree, and who have agreed on every collective before, are at the same one.

import { DTYPES, type DType, formatShape } from "@lockstep/tensor";

/** Most dimensions of a tensor in a collective. */
export const MAX_DIMS = 8;

/** Every collective, in the order of its code. */
export const COLLECTIVES = [
  "barrier",
  "allGather",
  "reduceScatter",
  "allReduce",
  "allToAll",
  "broadcast",
  "readPeers",
  "sendRecv",
  "allGatherCoalesced",
  "agree",
] as const;
export type CollectiveName = (typeof COLLECTIVES)[number];

/** Elementwise reductions, in the order of their code. */
export const REDUCTIONS = ["sum", "max", "min"] as const;
/** How elements of all ranks become one. They are folded in rank order, so that every run gives the same bits. */
export type Reduction = (typeof REDUCTIONS)[number];

/** What the bits of a sum may depend on, besides what is summed. */
export const DETERMINISMS = ["rank-order", "world-invariant"] as const;
/**
 * What the bits of a result may depend on besides its inputs. `rank-order`: on the order and number of ranks, so that
 * every run of a world gives the same bits. `world-invariant`: on nothing, so that every world gives the same bits.
 */
export type Determinism = (typeof DETERMINISMS)[number];

/** What a header says of a reduction, and what the kernels fold by, in the order of its code. */
export const FOLDS = [...REDUCTIONS, "world-invariant sum"] as const;
export type Fold = (typeof FOLDS)[number];

/** Largest and smallest do not depend on an order: they are the same fold in either mode. */
export function foldOf(reduction: Reduction, deterministic: Determinism): Fold {
  return reduction === "sum" && deterministic === "world-invariant" ? "world-invariant sum" : reduction;
}

const FLAGS = 1;
const SHAPE = 2;
/** Words of a header. */
export const HEADER_WORDS = SHAPE + MAX_DIMS;

/** Flag: this rank's data lies in its own tensors, which stay untouched until every rank has acknowledged. */
export const DIRECT = 1;
/** Flag: this rank's tensors are contiguous. */
export const CONTIGUOUS = 2;

/** Codes of what a header names: places in the lists. The kernels know dtypes and folds by them (reduce.as.ts). */
export const OP_CODES = codesOf(COLLECTIVES);
export const DTYPE_CODES = codesOf(DTYPES);
export const FOLD_CODES = codesOf(FOLDS);
/** For collectives without a dtype or without a reduction. */
export const NO_CODE = 15;

/** What a collective is, without its shape. `axis` is the dimension of a gather or scatter, the root of a broadcast. */
export function signatureOf(opCode: number, dtypeCode: number, foldCode: number, axis: number, dims: number): number {
  return opCode | (dtypeCode << 8) | (foldCode << 12) | (axis << 16) | (dims << 24);
}

/** Writes what this rank is about to do. */
export function writeHeader(
  words: Int32Array,
  header: number,
  signature: number,
  flags: number,
  shape: readonly number[],
): void {
  writeIfNew(words, header, signature);
  writeIfNew(words, header + FLAGS, flags);
  for (let dim = 0; dim < shape.length; dim++) writeIfNew(words, header + SHAPE + dim, shape[dim] ?? 0);
}

/** Stores a value unless it is there already: a store would take the line out of the peers' caches. */
export function writeIfNew(words: Int32Array, word: number, value: number): void {
  if (words[word] !== value) words[word] = value;
}

/** True when two headers announce the same collective. */
export function headersAgree(words: Int32Array, a: number, b: number): boolean {
  const signature = words[a] ?? 0;
  if (signature !== words[b]) return false;
  const end = SHAPE + (signature >>> 24);
  for (let at = SHAPE; at < end; at++) if (words[a + at] !== words[b + at]) return false;
  return true;
}

export function headerFlags(words: Int32Array, header: number): number {
  return words[header + FLAGS] ?? 0;
}

/** The parts of a signature. */
export function decodeSignature(signature: number): {
  readonly op: string;
  readonly dtype: DType | undefined;
  readonly fold: Fold | undefined;
  readonly reduction: Reduction | undefined;
  readonly axis: number;
} {
  const fold = FOLDS[(signature >>> 12) & 0xf];
  return {
    op: COLLECTIVES[signature & 0xff] ?? `collective ${signature & 0xff}`,
    dtype: DTYPES[(signature >>> 8) & 0xf],
    fold,
    reduction: fold === "world-invariant sum" ? "sum" : fold,
    axis: (signature >>> 16) & 0xff,
  };
}

/** What a header announces, for people: `allReduce sum f32 [2, 3]`. */
export function describeHeader(words: Int32Array, header: number): string {
  const signature = words[header] ?? 0;
  const dims = Math.min(signature >>> 24, MAX_DIMS);
  const shape = Array.from({ length: dims }, (_, dim) => words[header + SHAPE + dim] ?? 0);
  const { op, dtype, fold, axis } = decodeSignature(signature);
  if (op === "barrier" || op === "allToAll" || op === "sendRecv" || op === "agree") return op;
  if (op === "readPeers") return `readPeers of ${shape[0]} tensors${axis === 0 ? "" : ` along dim ${readDim(axis)}`}`;
  if (op === "allGatherCoalesced") return `allGatherCoalesced of ${shape[0]} tensors along dim ${(axis << 24) >> 24}`;
  const what = [op, fold, dtype, formatShape(shape)].filter((part) => part !== undefined).join(" ");
  if (op === "broadcast") return `${what} from root ${axis}`;
  return op === "allReduce" ? what : `${what} along dim ${axis}`;
}

/** The dimension that readers of chunks announce. */
function readDim(axis: number): number {
  const signed = (axis << 24) >> 24;
  return signed < 0 ? signed : signed - 1;
}

function codesOf<Name extends string>(names: readonly Name[]): Readonly<Record<Name, number>> {
  return Object.fromEntries(names.map((name, code) => [name, code])) as Record<Name, number>;
}
