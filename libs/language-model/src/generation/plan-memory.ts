import type { Model } from "../model/model.ts";
import type { SizedOptions } from "./generator-options.ts";
import { adviceOf, planOptions } from "./resolve-options.ts";
import { machineBytes } from "./machine-memory.ts";
import type { RankMemory } from "./memory-plan.ts";

/** What the ranks of a generator would hold. */
export interface MemoryPlan {
  /** Tokens of a text that there is room for: the `capacity`. */
  readonly context: number;
  /**
   * The most tokens of a text that are known to fit with the other options as they are; undefined when not even one
   * does.
   */
  readonly mostContext: number | undefined;
  /** Texts at a time, each of so many tokens. */
  readonly texts: number;
  /** Bytes of each rank. */
  readonly ranks: readonly RankMemory[];
  /** Bytes of all ranks, and of what the host needs. */
  readonly totalBytes: number;
  /** Bytes that this machine, or this container, has. */
  readonly machineBytes: number;
  /** Whether the KV cache lies on GPUs, whose memory is not counted. */
  readonly isOnDevice: boolean;
  /** What does not fit; undefined when all does. */
  readonly problem: string | undefined;
  /** Which other options would make it fit. Names of options stand between backticks. */
  readonly advice: string | undefined;
}

/**
 * What {@link Generator.open} would hold with these options, on each rank. Opens nothing.
 * A `world` of "auto" is not one that can be planned: {@link chooseWorld} gives the sizes that can.
 * @throws ArgumentError for a value that no model takes; UnfitOptions for what does not fit the model
 */
export function planMemory(model: Model, options: SizedOptions): MemoryPlan {
  const { plan, capacity, texts, isOnDevice } = planOptions(model, options);
  const { capacity: _, ...withoutCapacity } = options;
  const most = planOptions(model, withoutCapacity);
  const known = [most, { plan, capacity }].filter((planned) => planned.plan.problem === undefined);
  return {
    context: capacity,
    mostContext: known.length === 0 ? undefined : Math.max(...known.map((planned) => planned.capacity)),
    texts,
    ranks: plan.ranks,
    totalBytes: plan.totalBytes,
    machineBytes: machineBytes(),
    isOnDevice,
    problem: plan.problem,
    advice: plan.problem === undefined ? undefined : adviceOf(model, options),
  };
}
