// The first words of a slot say what its rank is about to do. Ranks compare them before they move data:
//
//   0 signature: op | dtype << 8 | reduction << 12 | dim or root << 16 | dimensions << 24      compared
//   1 sequence number of the collective                                                        compared
//   2 flags: what this rank's data looks like                                                  not compared
//   3 ...  shape, one word per dimension                                                       compared

import { DTYPES, type DType, formatShape } from "@lockstep/tensor";
import { MAX_DIMS } from "./control-block.ts";

/** Every collective, in the order of its code. */
export const COLLECTIVES = [
  "barrier",
  "allGather",
  "reduceScatter",
  "allReduce",
  "allToAll",
  "broadcast",
  "readPeers",
] as const;
export type CollectiveName = (typeof COLLECTIVES)[number];

/** Elementwise reductions, in the order of their code. */
export const REDUCTIONS = ["sum", "max", "min"] as const;
export type Reduction = (typeof REDUCTIONS)[number];

const NONE = 15;
const SEQUENCE = 1;
const FLAGS = 2;
const SHAPE = 3;

/** Flag: this rank's data lies in its own tensors, which stay untouched until every rank has acknowledged. */
export const DIRECT = 1;
/** Flag: this rank's tensors are contiguous. */
export const CONTIGUOUS = 2;

/** What the ranks of a group must agree on. `axis` is the dimension of a gather or scatter, the root of a broadcast. */
export interface Intent {
  readonly op: CollectiveName;
  readonly dtype: DType | undefined;
  readonly reduction: Reduction | undefined;
  readonly axis: number;
  readonly shape: readonly number[];
}

const dtypeCodes = new Map<DType | undefined, number>(DTYPES.map((dtype, code) => [dtype, code]));
const opCodes = new Map<CollectiveName, number>(COLLECTIVES.map((op, code) => [op, code]));

export function dtypeCode(dtype: DType | undefined): number {
  return dtypeCodes.get(dtype) ?? NONE;
}

export function reductionCode(reduction: Reduction | undefined): number {
  return reduction === undefined ? NONE : REDUCTIONS.indexOf(reduction);
}

export function writeHeader(
  words: Int32Array,
  slot: number,
  sequence: number,
  op: CollectiveName,
  dtype: DType | undefined,
  reduction: Reduction | undefined,
  axis: number,
  shape: readonly number[],
  flags: number,
): void {
  const dims = shape.length;
  words[slot] =
    (opCodes.get(op) ?? 0) | (dtypeCode(dtype) << 8) | (reductionCode(reduction) << 12) | (axis << 16) | (dims << 24);
  words[slot + SEQUENCE] = sequence;
  words[slot + FLAGS] = flags;
  for (let dim = 0; dim < dims; dim++) words[slot + SHAPE + dim] = shape[dim] ?? 0;
}

/** True when two slots announce the same collective. */
export function headersAgree(words: Int32Array, a: number, b: number): boolean {
  const signature = words[a] ?? 0;
  if (signature !== words[b] || words[a + SEQUENCE] !== words[b + SEQUENCE]) return false;
  const end = SHAPE + (signature >>> 24);
  for (let at = SHAPE; at < end; at++) if (words[a + at] !== words[b + at]) return false;
  return true;
}

export function headerFlags(words: Int32Array, slot: number): number {
  return words[slot + FLAGS] ?? 0;
}

/** What a slot announces, for people: `allReduce sum f32 [2, 3]`. */
export function describeHeader(words: Int32Array, slot: number): string {
  const signature = words[slot] ?? 0;
  const op = COLLECTIVES[signature & 0xff] ?? `collective ${signature & 0xff}`;
  const dtype = DTYPES[(signature >>> 8) & 0xf];
  const reduction = REDUCTIONS[(signature >>> 12) & 0xf];
  const axis = (signature >>> 16) & 0xff;
  const dims = Math.min(signature >>> 24, MAX_DIMS);
  const shape = Array.from({ length: dims }, (_, dim) => words[slot + SHAPE + dim] ?? 0);
  if (op === "barrier" || op === "allToAll") return op;
  if (op === "readPeers") return `readPeers of ${shape[0]} tensors`;
  const what = [op, reduction, dtype, formatShape(shape)].filter((part) => part !== undefined).join(" ");
  if (op === "broadcast") return `${what} from root ${axis}`;
  return op === "allReduce" ? what : `${what} along dim ${axis}`;
}
