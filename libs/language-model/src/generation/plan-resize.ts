// What a move of a live context from the ranks of one world to those of another takes at its peak.
import { placementOf } from "@lockstep/dist-groups";
import type { Model } from "../model/model.ts";
import type { SizedOptions } from "./generator-options.ts";
import { kvBlockBytes } from "./kv-blocks.ts";
import { machineBytes } from "./machine-memory.ts";
import { formatApart } from "./memory-plan.ts";
import { MOVE_BYTES } from "./move-live-context.ts";
import { type MemoryPlan, planMemory } from "./plan-memory.ts";
import { planOptions } from "./resolve-options.ts";
import type { RankOptions } from "./rank-options.ts";

/** What to do about too little memory. */
export const RESIZE_ADVICE = "take fewer `kvTokens` or fewer ranks, or open the others when these are closed";

/** What memory holds while a context moves from ranks to others beside them. */
export interface ResizePlan {
  /** What the ranks that have the context hold. */
  readonly from: MemoryPlan;
  /** What those hold that get it. */
  readonly to: MemoryPlan;
  /** Bytes of rows on their way, over all ranks and the host. */
  readonly movingBytes: number;
  /** All of it, at the same time. */
  readonly peakBytes: number;
  /** Bytes that this machine, or this container, has. */
  readonly machineBytes: number;
  /** What does not fit; undefined when all does. */
  readonly problem: string | undefined;
}

/** Ranks, and what they hold in all. */
export interface PlannedRanks {
  readonly rank: Pick<RankOptions, "config" | "sizes" | "kvDtype" | "calibration" | "blockSize">;
  readonly totalBytes: number;
}

/**
 * What `Engine.resize` and `Generator.resize` take at their peak. Opens nothing.
 * @param from options of the ranks that are there
 * @param to options of those that are to be
 * @throws as {@link planMemory}
 */
export function planResize(model: Model, from: SizedOptions, to: SizedOptions): ResizePlan {
  const plans = { from: planMemory(model, from), to: planMemory(model, to) };
  const ranks = [from, to].map((options): PlannedRanks => {
    const { rank, plan } = planOptions(model, options);
    return { rank, totalBytes: plan.totalBytes };
  });
  const [old, next] = ranks;
  if (old === undefined || next === undefined) throw new RangeError("there are two sides");
  const peak = resizePeak(old, next);
  return { ...plans, ...peak, problem: plans.to.problem ?? peak.problem };
}

/** The peak of a move, and whether this machine has so much memory. GPUs' is not counted. */
export function resizePeak(
  from: PlannedRanks,
  to: PlannedRanks,
): Pick<ResizePlan, "movingBytes" | "peakBytes" | "machineBytes" | "problem"> {
  // What a rank reads or writes lies there and at the host.
  const movingBytes = [from, to].reduce((sum, { rank }) => sum + 2 * rank.sizes.world * roundBytes(rank), 0);
  const peakBytes = from.totalBytes + to.totalBytes + movingBytes;
  const each = machineBytes();
  const machines = Math.max(...[from, to].map(({ rank }) => placementOf(rank.sizes.world).machines));
  if (peakBytes <= machines * each) return { movingBytes, peakBytes, machineBytes: each, problem: undefined };
  const [taken, there] = formatApart(peakBytes, machines * each);
  const has = machines === 1 ? "this machine has" : `${machines} machines like this one have`;
  const both = `${ranksOf(from)} and ${ranksOf(to)} beside them take ${taken} while the context moves`;
  return { movingBytes, peakBytes, machineBytes: each, problem: `${both}, but ${has} ${there}` };
}

function ranksOf({ rank }: PlannedRanks): string {
  return `${rank.sizes.world} ${rank.sizes.world === 1 ? "rank" : "ranks"}`;
}

/** Bytes that a rank reads or writes at a time: of a token's row at least. */
function roundBytes({ config, sizes, kvDtype, calibration, blockSize }: PlannedRanks["rank"]): number {
  const block = kvBlockBytes(config, { sizes, kvDtype, calibrationTokens: calibration.length, blockSize });
  return Math.max(MOVE_BYTES, block / blockSize);
}
