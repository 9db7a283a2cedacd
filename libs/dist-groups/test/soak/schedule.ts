// What the ranks of a soak do, as a function of a seed and a number: the same on every rank, whatever its groups.

import type { DType } from "@lockstep/tensor";
import { randomWords } from "../collective-cases.ts";

/** Partitions of the ranks; a step is a collective in every group of one of them. */
export function partitions(ranks: number): Readonly<Record<string, readonly (readonly number[])[]>> {
  const all = Array.from({ length: ranks }, (_, rank) => rank);
  const pairs = Array.from({ length: Math.ceil(ranks / 2) }, (_, at) => all.slice(2 * at, 2 * at + 2));
  return {
    halves: [all.slice(0, ranks >> 1), all.slice(ranks >> 1)].filter(({ length }) => length > 0),
    parities: [all.filter((rank) => rank % 2 === 0), all.filter((rank) => rank % 2 === 1)].filter(
      ({ length }) => length > 0,
    ),
    pairs,
    backwards: [all.toReversed()],
  };
}

export const SOAK_COLLECTIVES = [
  "barrier",
  "allGather",
  "allGatherCoalesced",
  "reduceScatter",
  "allReduce",
  "allToAll",
  "broadcast",
  "sendRecv",
  "readPeers",
] as const;
export type SoakCollective = (typeof SOAK_COLLECTIVES)[number];

/** The dtypes that can be reduced. */
const REDUCED: readonly DType[] = ["f32", "f16", "bf16", "i32", "u32", "u8"];

export interface SoakStep {
  readonly group: string;
  readonly collective: SoakCollective;
  readonly dtype: DType;
  /** Elements of a chunk; a whole tensor has `extra` more, so that chunks are uneven. */
  readonly count: number;
  readonly extra: number;
  readonly strided: boolean;
  readonly inPlace: boolean;
  /** A rank (modulo their number) that comes late, and by how much. */
  readonly late: number;
  readonly lateMs: number;
  /** Goes into every value. */
  readonly salt: number;
}

/** Most elements of a chunk. */
export const MOST_ELEMENTS = 12_000;

/** Step `number` of a soak. */
export function soakStep(seed: number, number: number, groups: readonly string[]): SoakStep {
  const next = randomWords(seed * 7919 + number);
  const pick = <T>(from: readonly T[], otherwise: T): T => from[next() % from.length] ?? otherwise;
  // Most messages are small; one in 256 is of any size.
  const small = next() % 256 !== 0;
  return {
    group: pick(groups, "world"),
    collective: pick(SOAK_COLLECTIVES, "barrier"),
    dtype: pick(REDUCED, "f32"),
    count: next() % (small ? 48 : MOST_ELEMENTS),
    extra: next() % 8,
    strided: next() % 8 === 0,
    inPlace: next() % 4 === 0,
    late: next(),
    lateMs: next() % 128 === 0 ? (next() % 200) / 1000 : 0,
    salt: next() % 251,
  };
}
