// Times ways of spreading a model against each other, in one world of ranks.
import { type MethodsOf, openWorld, parallelGroups, type World } from "@lockstep/dist-groups";
import type { Model } from "../model/model.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import type { SizedOptions } from "./generator-options.ts";
import { hostHeapBytes } from "./memory-plan.ts";
import { START_DEADLINE_MS } from "./open-ranks.ts";
import { checkOwnProgram } from "./own-program.ts";
import { gpuGroups } from "./rank-backend.ts";
import { trialGroups } from "./trial-program.ts";
import { planTrial, type TrialShape, trialShape } from "./trial-shape.ts";
import { type TrialTimes, type WorldTimes, worldTimes } from "./world-times.ts";

type Program = typeof import("./trial-program.ts");

/** Rounds, in each of which every candidate has its turn, that only warm up; and those of a call after it. */
const WARM_UP = 1;
const ROUNDS_OF_A_CALL = 3;
/**
 * What all of it may take: of the time that it takes to fill the context a part, within limits, since a better choice
 * wins about as much; and a part of what it takes to load weights. Short texts are over before it has paid to wait for
 * engines that compile; where long ones are timed they take about a second for it.
 */
const OF_CONTEXT = { short: 0.02, long: 0.25 } as const;
const LEAST_MS = 60;
const MOST_MS = 1000;
const MS_PER_MEBI = 0.2;

/** A world in which candidates are timed in turn. */
export class WorldTrial implements AsyncDisposable {
  readonly #world: World<MethodsOf<Program>>;
  readonly #shape: TrialShape;
  readonly #texts: number;
  readonly #context: number;

  private constructor(
    world: World<MethodsOf<Program>>,
    candidates: readonly SizedOptions[],
    shape: TrialShape,
    context: number,
  ) {
    this.#world = world;
    this.#shape = shape;
    this.#texts = candidates[0]?.texts ?? 1;
    this.#context = context;
  }

  /**
   * Opens a world of as many ranks as the largest candidate has. Candidates differ in their sizes alone.
   * @throws what Generator.open throws where ranks cannot run
   */
  static async open(model: Model, candidates: readonly SizedOptions[], context: number): Promise<WorldTrial> {
    const [first] = candidates;
    if (first === undefined) throw new RangeError("there is no candidate");
    const shape = trialShape(model, first, context);
    const { size, options, heapBytesPerRank, gpus, deadlineMs } = planTrial(model, shape, candidates);
    const { worker } = first;
    const world = await openWorld<Program>({
      size,
      ...(worker === undefined ? { program: new URL("./trial-program.ts", import.meta.url) } : { worker }),
      options,
      heapBytesPerRank,
      groups: { ...candidateGroups(options.candidates.map(({ sizes }) => sizes)), gpu: gpuGroups(size, gpus) },
      heapBytesHost: hostHeapBytes(1),
      startDeadlineMs: START_DEADLINE_MS,
      deadlineMs,
    });
    try {
      if (worker !== undefined) await checkOwnProgram(() => world.call("identify", []));
      return new WorldTrial(world, candidates, shape, context);
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** What every candidate takes, in the order of the candidates. */
  async measure(): Promise<WorldTimes[]> {
    const started = performance.now();
    const cold = await this.#rounds(WARM_UP);
    const contextMs = this.#context * Math.min(...cold.map((times) => this.#timesOf([times]).stepMs));
    const loadMs = (MS_PER_MEBI * this.#shape.modelBytes) / 2 ** 20;
    const part = this.#shape.promptTokens === 0 ? OF_CONTEXT.short : OF_CONTEXT.long;
    const end = started + loadMs + Math.min(MOST_MS, Math.max(LEAST_MS, part * contextMs));
    const rounds = [await this.#rounds(ROUNDS_OF_A_CALL)];
    while (performance.now() < end) rounds.push(await this.#rounds(ROUNDS_OF_A_CALL));
    // What ran first ran slowest.
    const later = rounds.slice(Math.floor(rounds.length / 2));
    return cold.map((_, index) => this.#timesOf(later.map((all) => all[index]).filter((times) => times !== undefined)));
  }

  /** Times of each candidate. */
  async #rounds(count: number): Promise<TrialTimes[]> {
    const [candidates = []] = await this.#world.call("measure", [count]);
    return candidates;
  }

  #timesOf(times: readonly TrialTimes[]): WorldTimes {
    const { lengths, texts: timedTexts, promptTokens } = this.#shape;
    return worldTimes(times, { lengths, timedTexts, texts: this.#texts, promptTokens, context: this.#context });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#world.close();
  }
}

/** The groups of every candidate, of its own ranks among all. */
function candidateGroups(candidates: readonly ParallelSizes[]): Record<string, number[][]> {
  const groups: Record<string, number[][]> = {};
  for (const [index, { world, dcp }] of candidates.entries()) {
    const names = trialGroups(index);
    groups[names.all] = [Array.from({ length: world }, (_, rank) => rank)];
    groups[names.dcp] = parallelGroups({ layout: "classic", tp: world, dcp }).dcp.map((ranks) => [...ranks]);
  }
  return groups;
}
