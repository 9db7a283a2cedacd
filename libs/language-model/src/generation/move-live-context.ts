// A live context on its way from the ranks of one world to those of another, through the host: nothing of it is
// computed again.
//
// Rows go in rounds of bounded size, each read by the old ranks and written by the new ones, by the plan of
// `DcpAttention.redistribute`. The old ranks only read, so they can go on as if nothing had happened until the new ones
// have all.
import {
  type ContextImage,
  type KvLayout,
  moveRounds,
  positionsOfBlock,
  regroupContext,
  type RowPart,
  type RowRun,
  rowRuns,
} from "@lockstep/attention";
import { DTYPE_BYTES, elementCount } from "@lockstep/tensor";
import { rankShare } from "../model/tensor-parallel.ts";
import { MoveFailed } from "../errors.ts";
import type { StoredContext } from "./context-rank.ts";
import { type HeadRun, headRuns, type StoredHeads } from "./kv-head-runs.ts";
import type { RankOptions } from "./rank-options.ts";

/** Bytes of rows that each rank reads or writes at a time: they lie in the host's memory meanwhile. */
export const MOVE_BYTES: number = 4 << 20;

/** Ranks that have a context, or get one. */
export interface ContextRanks {
  readonly rank: Pick<RankOptions, "config" | "sizes" | "blockSize" | "interleave" | "kvWeights" | "numBlocks">;
  /** What a rank stores. It and the next two as `contextMethods` has them. */
  storedContext(rank: number): Promise<StoredContext>;
  readRows(rank: number, slots: readonly number[]): Promise<Uint8Array[]>;
  writeRows(rank: number, slots: readonly number[], parts: readonly Uint8Array[]): Promise<void>;
}

/** What moved. */
export interface MovedContext {
  /** Who holds which of the new blocks: what the new ranks are to adopt. */
  readonly image: ContextImage;
  /** Rows of the KV cache, one for each stored token of a block. */
  readonly rows: number;
  /** Bytes of them that were written, over all new ranks. */
  readonly bytes: number;
}

/** One rank's part of every context, as both ends see it. */
interface End extends StoredHeads {
  readonly parts: readonly RowPart[];
}

/**
 * Copies the rows of a context. The new ranks store nothing yet, and are to adopt the image that is returned.
 * @param image what of the old ranks' context is to come
 * @param isWanted looked at before each round; what it throws ends the move
 * @throws MoveFailed when rows of both are not the same; OutOfBlocks when sequences do not fit; whatever stopped a rank
 */
export async function moveLiveContext(
  from: ContextRanks,
  to: ContextRanks,
  image: ContextImage,
  isWanted: () => void = () => {},
  bytesAtATime: number = MOVE_BYTES,
): Promise<MovedContext> {
  const [sources, targets] = [await endsOf(from), await endsOf(to)];
  expectSameRows(sources.contexts, targets.contexts);
  const deals = { from: dealOf(from.rank), to: dealOf(to.rank) };
  const sizes = [positionsOfBlock(deals.from), positionsOfBlock(deals.to)] as const;
  const regrouped = regroupContext(image, ...sizes, to.rank.numBlocks);
  const widest = Math.max(...[...sources.ends, ...targets.ends].map(({ parts }) => rowBytes(parts)));
  const ranks = { from: upTo(deals.from.count, 0), to: upTo(deals.to.count, deals.from.count) };
  const runs = rowRuns(deals.from, deals.to, regrouped.moves);
  const counts = { rows: 0, bytes: 0 };
  // Heads that several ranks store are read from the first.
  const wanted = new Set(
    upTo(deals.from.count, 0).flatMap((shard) =>
      targets.ends.flatMap((end) => headsFrom(sources.ends, shard, end).map(({ source }) => source)),
    ),
  );
  for (const round of moveRounds(runs, ranks, Math.max(1, Math.floor(bytesAtATime / widest)))) {
    isWanted();
    const gathered = new GatheredRound(round, deals.from.count);
    const slots = sources.ends.map(({ shard }, rank) => (wanted.has(rank) ? (gathered.slots[shard] ?? []) : []));
    const read = await all(slots.map((own, rank) => from.readRows(rank, own)));
    const writes = targets.ends.flatMap((end, rank) => {
      const { toSlots, rows } = gathered.of(end, sources.ends, read);
      if (toSlots.length === 0) return [];
      counts.bytes += rows.reduce((sum, { length }) => sum + length, 0);
      return to.writeRows(rank, toSlots, rows);
    });
    await all(writes);
    counts.rows += round.reduce((sum, { count }) => sum + count, 0);
  }
  return { image: regrouped.image, ...counts };
}

/** How a world deals contexts to its ranks. */
export function dealOf({ sizes, blockSize, interleave, kvWeights }: ContextRanks["rank"]): KvLayout {
  return { count: sizes.dcp, interleave, blockSize, ...(kvWeights === undefined ? {} : { weights: kvWeights }) };
}

async function endsOf(world: ContextRanks): Promise<{ ends: readonly End[]; contexts: readonly StoredContext[] }> {
  const { sizes, config } = world.rank;
  const contexts = await all(upTo(sizes.world, 0).map((rank) => world.storedContext(rank)));
  const ends = contexts.map(({ parts }, rank) => {
    return { shard: rank % sizes.dcp, heads: rankShare(sizes, rank, config).kvHeads, parts };
  });
  return { ends, contexts };
}

/** What must be the same of both ends: all but how contexts are dealt, and to how many ranks heads are. */
function expectSameRows(from: readonly StoredContext[], to: readonly StoredContext[]): void {
  const meaning = ({ layout, parts }: StoredContext): string => {
    const { blockSize: _b, interleave: _i, weights: _w, dcp: _d, dcpRank: _r, kvHeads: _h, ...row } = layout;
    return JSON.stringify([row, parts.map(({ name, dtype, shape }) => [name, dtype, shape.slice(1)])]);
  };
  const [expected = "", ...others] = [...from, ...to].map(meaning);
  const other = others.find((text) => text !== expected);
  if (other !== undefined) throw new MoveFailed(`rows of the KV cache are ${expected} here, but ${other} there`);
}

/** One round's rows, read by source ranks and put together for target ranks. */
class GatheredRound {
  /** Slots that every rank of a shard of the old layout reads. */
  readonly slots: readonly number[][];
  /** Each run, with the place of its first row among those of its shard. */
  readonly #runs: readonly (RowRun & { readonly first: number })[];
  readonly #fromShards: number;

  constructor(round: readonly RowRun[], fromShards: number) {
    this.slots = Array.from({ length: fromShards }, () => []);
    this.#fromShards = fromShards;
    this.#runs = round.map((run) => {
      const slots = this.slots[run.from] ?? [];
      const first = slots.length;
      for (let at = 0; at < run.count; at++) slots.push(run.fromSlot + at);
      return { ...run, first };
    });
  }

  /** What a target rank writes: slots, and rows of each part. */
  of(
    target: End,
    sources: readonly End[],
    read: readonly (readonly Uint8Array[])[],
  ): { readonly toSlots: number[]; readonly rows: Uint8Array[] } {
    const own = this.#runs.filter(({ to }) => to - this.#fromShards === target.shard);
    const toSlots = own.flatMap(({ toSlot, count }) => upTo(count, toSlot));
    const heads = new Map(own.map(({ from }) => [from, headsFrom(sources, from, target)]));
    const rows = target.parts.map((part, at) => {
      const bytes = new Uint8Array(toSlots.length * partBytes(part));
      let row = 0;
      for (const { from, first, count } of own) {
        for (const run of heads.get(from) ?? []) {
          const source = sources[run.source]?.parts[at];
          const given = read[run.source]?.[at];
          if (source === undefined || given === undefined) throw new RangeError(`rank ${run.source} gave nothing`);
          copyHeads({ part: source, bytes: given, row: first }, { part, bytes, row }, run, count);
        }
        row += count;
      }
      return bytes;
    });
    return { toSlots, rows };
  }
}

/** Rows of a part, from one on. */
interface PartRows {
  readonly part: RowPart;
  readonly bytes: Uint8Array;
  readonly row: number;
}

/** Copies some heads of `count` rows. */
function copyHeads(from: PartRows, to: PartRows, { inSource, inRank, count: heads }: HeadRun, count: number): void {
  const headBytes = partBytes(from.part) / (from.part.shape[0] ?? 1);
  const [fromRow, toRow] = [partBytes(from.part), partBytes(to.part)];
  // Whole rows lie one after another on both sides.
  const [rows, bytes] =
    heads * headBytes === fromRow && fromRow === toRow ? [1, count * fromRow] : [count, heads * headBytes];
  for (let at = 0; at < rows; at++) {
    const start = (from.row + at) * fromRow + inSource * headBytes;
    to.bytes.set(from.bytes.subarray(start, start + bytes), (to.row + at) * toRow + inRank * headBytes);
  }
}

function headsFrom(sources: readonly End[], shard: number, { heads }: End): readonly HeadRun[] {
  const found = headRuns(sources, shard, heads);
  if (typeof found === "number") throw new MoveFailed(`no rank stores KV head ${found} of shard ${shard}`);
  return found;
}

function partBytes({ dtype, shape }: RowPart): number {
  return DTYPE_BYTES[dtype] * elementCount(shape);
}

function rowBytes(parts: readonly RowPart[]): number {
  return Math.max(
    1,
    parts.reduce((sum, part) => sum + partBytes(part), 0),
  );
}

function upTo(count: number, from: number): number[] {
  return Array.from({ length: count }, (_, at) => from + at);
}

/** As `Promise.all`, but once all have settled: no call is under way when this throws. */
async function all<T>(calls: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(calls);
  return await Promise.all(calls);
}
