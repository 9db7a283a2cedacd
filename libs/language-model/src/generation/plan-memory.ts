import { ArgumentError, describe } from "@lockstep/tensor";
import type { Model } from "../model/model.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import { checkOptionsObject } from "./check-options.ts";
import type { GeneratorOptions, SizedOptions } from "./generator-options.ts";
import { allCores } from "./machine-cores.ts";
import { sharesOf } from "./kv-shares.ts";
import { machineBytes } from "./machine-memory.ts";
import type { RankMemory } from "./memory-plan.ts";
import { adviceOf, planOptions } from "./resolve-options.ts";
import { refuseSharedGpu, spreadOptions, triedSizes } from "./world-candidates.ts";

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
  /** Shares of the KV cache that the ranks of a DCP group store, in their order; 1 each where they are equal. */
  readonly kvWeights: readonly number[];
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

/** A way of spreading a model, and what its ranks would hold. */
export interface WorldPlan {
  /** Ranks, and how they share KV caches. */
  readonly sizes: ParallelSizes;
  /** What {@link planMemory} says of them. */
  readonly plan: MemoryPlan;
}

/**
 * What {@link Generator.open} would hold with a `world` of "auto": the plan of every way of spreading the model that
 * {@link chooseWorld} would choose from, fewest ranks first. Where none fits, that of the most ranks that were tried
 * alone, whose `problem` says why. Opens and times nothing.
 * @throws ArgumentError for a value that no model takes; UnfitOptions for what does not fit the model, and ranks that
 *   share a GPU
 */
export function planWorlds(model: Model, options: Omit<GeneratorOptions, "world">): readonly WorldPlan[] {
  checkOptionsObject("planWorlds", options);
  refuseSharedGpu(options);
  const wanted: GeneratorOptions = { ...options, world: "auto" };
  const { fitting, last } = triedSizes(model, wanted, allCores());
  return (fitting.length > 0 ? fitting : [last]).map((sizes) => ({
    sizes,
    plan: planMemory(model, spreadOptions(wanted, sizes)),
  }));
}

/**
 * What {@link Generator.open} would hold with these options, on each rank. Opens nothing. {@link planWorlds} is for a
 * `world` of "auto".
 * @throws ArgumentError for a value that no model takes; UnfitOptions for what does not fit the model
 */
export function planMemory(model: Model, options: SizedOptions): MemoryPlan {
  const name = "planMemory";
  checkOptionsObject(name, options, "an object with world");
  const { world }: { readonly world: unknown } = options;
  if (world === "auto") {
    throw new ArgumentError(name, "world", "a number of ranks (planWorlds plans those of auto)", describe(world));
  }
  const { plan, capacity, texts, isOnDevice, rank } = planOptions(model, options);
  const { capacity: _, ...withoutCapacity } = options;
  const most = planOptions(model, withoutCapacity);
  const known = [most, { plan, capacity }].filter((planned) => planned.plan.problem === undefined);
  return {
    context: capacity,
    mostContext: known.length === 0 ? undefined : Math.max(...known.map((planned) => planned.capacity)),
    texts,
    kvWeights: sharesOf(rank.kvWeights, rank.sizes.dcp),
    ranks: plan.ranks,
    totalBytes: plan.totalBytes,
    machineBytes: machineBytes(),
    isOnDevice,
    problem: plan.problem,
    advice: plan.problem === undefined ? undefined : adviceOf(model, options),
  };
}
