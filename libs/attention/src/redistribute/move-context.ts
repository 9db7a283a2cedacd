// A context on its way from one layout to another: what is agreed on, moved and committed, in which order.
import type { ProcessGroup } from "@lockstep/dist-groups";
import type { SharedHeap } from "@lockstep/tensor";
import type { ContextImage } from "../kv/context-image.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { KvSequences } from "../kv/kv-sequences.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { positionsOfBlock } from "./kv-layout.ts";
import { type AgreedMove, agreedMove, placeIn, type RankIntent } from "./layout-agreement.ts";
import { moveRounds } from "./move-rounds.ts";
import { TextChannel } from "./rank-texts.ts";
import { RedistributeFailed } from "./redistribute-failed.ts";
import { RedistributeUnsettled } from "./redistribute-unsettled.ts";
import type { RedistributeCounts, RedistributeMetrics } from "./redistribute-metrics.ts";
import { DEFAULT_WORKSPACE_BYTES, type MoveOptions } from "./redistribute-options.ts";
import { regroupContext } from "./regroup-context.ts";
import { RowMover } from "./row-mover.ts";
import { rowRuns } from "./row-runs.ts";

/** One rank's part of a context in one layout. */
export interface ContextPart {
  readonly options: ResolvedOptions;
  readonly caches: KvCaches;
  readonly sequences: KvSequences;
}

/** What a rank brings to a move. */
export interface ContextMove extends Omit<MoveOptions, "to"> {
  readonly group: ProcessGroup;
  /** Its part of the old layout. */
  readonly source: ContextPart | undefined;
  /** What its part of the new layout is opened with. */
  readonly target: ResolvedOptions | undefined;
  /** Opens that part, together with the other ranks of the new layout. */
  readonly open: (options: ResolvedOptions) => ContextPart;
  readonly heap: SharedHeap;
  /** Why this rank cannot take part, which the others are to know. */
  readonly failure: Error | undefined;
}

/**
 * Moves a context. Every rank of the group calls it together. When it returns, all ranks have all that is theirs, and
 * all know it; whoever called it then closes the old part. When it throws, the old part is as it was, and closing the
 * new one is the caller's; but after RedistributeUnsettled the new one is whole as well, and may be the one that counts.
 */
export async function moveContext(move: ContextMove): Promise<RedistributeMetrics> {
  const { group, heap, source, target, deadlineMs, workspaceBytes = DEFAULT_WORKSPACE_BYTES } = move;
  using channel = new TextChannel(group, heap, deadlineMs);
  const intent: RankIntent = {
    workspaceBytes,
    ...(source === undefined ? {} : { from: placeIn(source.options) }),
    ...(target === undefined ? {} : { to: placeIn(target) }),
    ...(move.failure === undefined ? {} : { failure: move.failure.message }),
  };
  const intents = (await channel.gather(JSON.stringify(intent))).map((text): RankIntent => JSON.parse(text));
  if (move.failure !== undefined) throw move.failure;
  const agreed = agreedMove(intents);
  const image = await sharedImage(channel, agreed, source);
  const counts = noCounts();
  const regrouped = regroupContext(
    agreed.hasPrefixes ? image : withoutPrefixes(image),
    positionsOfBlock(agreed.from),
    positionsOfBlock(agreed.to),
    agreed.numBlocks,
  );
  counts.forgottenTokens = regrouped.forgottenTokens;
  if (!agreed.hasPrefixes) counts.forgottenTokens = image.known.length * positionsOfBlock(agreed.from);
  const opened = await prepared(channel, move, workspaceBytes, counts);
  using mover = opened.mover;
  opened.part?.sequences.adopt(regrouped.image);
  for (const round of moveRounds(rowRuns(agreed.from, agreed.to, regrouped.moves), agreed.ranks, mover.mostRows)) {
    await mover.move(round);
  }
  await vote(channel, mover.failure);
  // All have voted, and know it when the last one comes here: from now on it is the new context that counts.
  try {
    await group.async.barrier({ deadlineMs });
  } catch (error) {
    throw new RedistributeUnsettled(error instanceof Error ? error : new Error(String(error)));
  }
  return counts;
}

/** Who holds what in the old layout, the same on every rank that has a part of it. */
async function sharedImage(
  channel: TextChannel,
  { ranks }: AgreedMove,
  source: ContextPart | undefined,
): Promise<ContextImage> {
  const [root = 0] = ranks.from;
  const own = source === undefined ? undefined : JSON.stringify(source.sequences.image);
  const text = await channel.broadcast(root, own);
  const isOther = own !== undefined && own !== text;
  await vote(
    channel,
    isOther ? new RedistributeFailed([channel.group.rank], `its sequences are not those of rank ${root}`) : undefined,
  );
  return JSON.parse(text);
}

function withoutPrefixes(image: ContextImage): ContextImage {
  return { ...image, known: [], sequences: image.sequences.map((sequence) => ({ ...sequence, kept: 0 })) };
}

/** The new part, opened on all ranks that get one, and what moves rows to it. */
async function prepared(
  channel: TextChannel,
  { group, heap, source, target, open, signal, deadlineMs }: ContextMove,
  workspaceBytes: number,
  counts: RedistributeCounts,
): Promise<{ readonly part: ContextPart | undefined; readonly mover: RowMover }> {
  let part: ContextPart | undefined;
  let mover: RowMover | undefined;
  let failure: Error | undefined;
  try {
    part = target === undefined ? undefined : open(target);
    const beforeRound = (): void => {
      if (signal?.aborted === true) throw new RedistributeFailed([group.rank], "its signal fired");
    };
    const ends = { source: cacheEnd(source), target: cacheEnd(part) };
    const parts = (part ?? source)?.caches.rowParts ?? [];
    mover = new RowMover({ group, heap, ...ends, workspaceBytes, deadlineMs, beforeRound }, parts, counts);
    await vote(channel, undefined);
    return { part, mover };
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
    if (mover === undefined) await vote(channel, failure);
    mover?.[Symbol.dispose]();
    throw failure;
  }
}

function cacheEnd(
  part: ContextPart | undefined,
): { backend: ResolvedOptions["backend"]; caches: KvCaches } | undefined {
  return part === undefined ? undefined : { backend: part.options.backend, caches: part.caches };
}

/** Returns when no rank has failed. @throws this rank's failure; RedistributeFailed when another rank has one */
async function vote(channel: TextChannel, failure: Error | undefined): Promise<void> {
  const texts = await channel.gather(failure === undefined ? "" : failure.message || "it failed");
  if (failure !== undefined) throw failure;
  const failed = texts.flatMap((text, rank) => (text === "" ? [] : [rank]));
  if (failed.length > 0) throw new RedistributeFailed(failed, texts[failed[0] ?? 0] ?? "");
}

function noCounts(): RedistributeCounts {
  return {
    rowsSent: 0,
    rowsReceived: 0,
    rowsKept: 0,
    bytesSent: 0,
    bytesReceived: 0,
    rounds: 0,
    workspaceBytes: 0,
    forgottenTokens: 0,
  };
}
