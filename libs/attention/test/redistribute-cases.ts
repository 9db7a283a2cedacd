// Contexts that move between layouts in the tests: what is stored, and how it is dealt.
import type { RedistributeMetrics } from "@lockstep/attention";
import type { HeadRange } from "@lockstep/dist-groups";
import type { DType } from "@lockstep/tensor";

export const LAYERS = 2;
export const QUERY_HEADS = 4;

/** What is stored of a token. */
export interface RowShape {
  readonly kvHeads: number;
  readonly dims: readonly [key: number, value: number];
  readonly kvDtype: DType;
  readonly mla: boolean;
  readonly scales?: number;
}

/** How a context is dealt to ranks. */
export interface Deal {
  readonly interleave: number;
  readonly weights?: readonly number[];
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Ranks that split the new tokens of a prefill: a divisor of the layout's. Left out: nothing is prefilled. */
  readonly pcp?: number;
}

/** Moves one after another: the first deal is where the context begins. */
export interface MoveCase {
  readonly shape: RowShape;
  /** Each with a group named `layout I`. */
  readonly deals: readonly Deal[];
  /** Names of groups of all ranks of a deal and of the next. */
  readonly unions: readonly string[];
  readonly workspaceBytes: number;
  readonly seed: number;
  /** Whether attention is world-invariant. */
  readonly isInvariant?: boolean;
}

/** How a deal's groups are named: `layout I` has all of its ranks, the others those that its parts are made of. */
export function groupsOf(layout: number, ranks: readonly number[], pcp: number) {
  const name = `layout ${layout}`;
  const queryRanks = ranks.length / pcp;
  const every = (count: number, pick: (at: number, index: number) => boolean): number[][] =>
    Array.from({ length: count }, (_, index) => ranks.filter((_, at) => pick(at, index)));
  const query = every(pcp, (at, index) => Math.floor(at / queryRanks) === index);
  const columns = every(queryRanks, (at, index) => at % queryRanks === index);
  return [
    { name, ranks },
    ...(pcp === 1 ? [] : query.map((part, at) => ({ name: `${name} query ${at}`, ranks: part }))),
    ...(pcp === 1 ? [] : columns.map((part, at) => ({ name: `${name} pcp ${at}`, ranks: part }))),
  ];
}

/** What a rank saw. */
export interface MoveReport {
  readonly metrics: readonly RedistributeMetrics[];
  /** Tokens that this rank held before and after each move. */
  readonly held: readonly (readonly [before: number, after: number])[];
  /** Blocks in use after each move, on ranks that have some. */
  readonly blocks: readonly number[];
  /** Of each sequence at the end: tokens, and the bits of the tokens that follow. */
  readonly moved: readonly SequenceReport[];
  /** The same of a context that was always dealt like that. */
  readonly expected: readonly SequenceReport[];
  /** Tokens found of the known texts at the end. */
  readonly known: readonly number[];
  /** Heads of the last deal that the bits are of. */
  readonly heads: HeadRange;
}

export interface SequenceReport {
  readonly length: number;
  readonly bits: readonly number[];
}

export const PLAIN: RowShape = { kvHeads: 2, dims: [8, 4], kvDtype: "f32", mla: false };
export const SHAPES: readonly RowShape[] = [
  PLAIN,
  { kvHeads: 1, dims: [7, 5], kvDtype: "f16", mla: false },
  { kvHeads: 2, dims: [8, 8], kvDtype: "i8", mla: false },
  { kvHeads: 2, dims: [5, 8], kvDtype: "f8e4m3", mla: false },
  { kvHeads: 1, dims: [16, 8], kvDtype: "i8", mla: true },
  { kvHeads: 4, dims: [4, 4], kvDtype: "bf16", mla: false },
  { kvHeads: 2, dims: [8, 4], kvDtype: "i8", mla: false, scales: 0.03 },
  { kvHeads: 1, dims: [9, 6], kvDtype: "f16", mla: true },
];

export const shapeOf = (at: number): RowShape => SHAPES[at % SHAPES.length] ?? PLAIN;

export function upTo(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, at) => from + at);
}
