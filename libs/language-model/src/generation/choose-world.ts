import type { Model } from "../model/model.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import { checkOptionsObject } from "./check-options.ts";
import type { GeneratorOptions } from "./generator-options.ts";
import { allCores, launchedTogether } from "./machine-cores.ts";
import { planOptions } from "./resolve-options.ts";
import { refuseSharedGpu, spreadOptions, worldCandidates } from "./world-candidates.ts";
import type { WorldTimes } from "./world-times.ts";
import { WorldTrial } from "./world-trial.ts";

/** A way of spreading a model, and what it costs. */
export interface WorldCandidate extends WorldTimes {
  /** Ranks, and how they share KV caches. */
  readonly sizes: ParallelSizes;
}

/** How a model is spread, and why. */
export interface WorldChoice {
  /** What was chosen: `world`, `dcp` and `kvHeads` (here `kvLayout`) of a generator. */
  readonly sizes: ParallelSizes;
  /** What was tried, fewest ranks first; empty when only one way was possible, which is taken without trying. */
  readonly candidates: readonly WorldCandidate[];
  /** Tokens of a text for which the times are. */
  readonly context: number;
  /** Why, in words for people. */
  readonly reason: string;
}

/**
 * Measures candidates: those of a list, each at a context of so many tokens. The order of what it returns is the
 * list's.
 */
type MeasureWorlds = (
  model: Model,
  options: GeneratorOptions,
  candidates: readonly ParallelSizes[],
  context: number,
) => Promise<readonly WorldTimes[]>;

/** A candidate with more ranks must be faster than one with fewer by this factor: less may be noise. */
const WORTH = 1.05;
/** Tokens of a text where no capacity is given. */
const USUAL_TOKENS = 4096;

/**
 * Chooses over how many ranks of this machine a model is spread, and how: what is fastest for these options (capacity,
 * texts, kvDtype, weights, backend), of 1, 2, 4, ... ranks up to the cores, at most one for each query head, that hold
 * the model and the context. Where a launcher such as `mpirun` started several processes together, it is one rank for
 * each of them. A `dcp` and a `kvHeads` that are given are kept. `Generator.open` with a `world` of "auto"
 * does this, and its `choice` tells.
 *
 * It times real steps of each candidate in turn, on ranks of their own, over a few layers of the model's shapes with
 * made-up weights. Of contexts from 512 tokens on it takes the least of the later times, what steps take once the
 * engines have compiled them; of shorter ones, which are over before, the lower quartile of times at first. Layers and
 * tokens of context beyond those it times are reckoned from the time of one. The fastest is the one that takes least
 * for as many tokens of a prompt as are generated, of which the former have half of the context before them. More ranks
 * are taken only when they are at least 5 % faster. This takes a third of a second for small models and short texts,
 * about one for long ones, more for models whose weights take seconds to load. Which is chosen may change from run to
 * run where two are about as fast; the texts are right with each.
 *
 * @throws UnfitOptions when no number of ranks fits, or for ranks that share a GPU; ArgumentError for a value that no
 *   model takes; what `Generator.open` throws where ranks cannot run
 */
export async function chooseWorld(model: Model, options: Omit<GeneratorOptions, "world">): Promise<WorldChoice> {
  return await chooseMeasured(model, options, measureHere);
}

/** {@link chooseWorld} by the times that `measure` finds. */
export async function chooseMeasured(
  model: Model,
  options: Omit<GeneratorOptions, "world">,
  measure: MeasureWorlds,
): Promise<WorldChoice> {
  checkOptionsObject("chooseWorld", options);
  const wanted: GeneratorOptions = { ...options, world: "auto" };
  const candidates = checkWorlds(model, wanted);
  const [only] = candidates;
  const context = contextOf(model, wanted, only);
  if (only !== undefined && candidates.length === 1) {
    const name = worldName(only, candidates);
    const launched = launchedTogether();
    const reason =
      launched > 1
        ? `${name}, as many as processes were started together`
        : only.world > allCores()
          ? `${name} are the fewest that fit the options, the model and the memory`
          : `only ${name} ${only.world === 1 ? "fits" : "fit"} the cores, the options, the model and the memory`;
    return { sizes: only, candidates: [], context, reason };
  }
  const times = await measure(model, wanted, candidates, context);
  return chooseFastest(
    candidates.map((sizes, index) => ({ sizes, ...(times[index] ?? NEVER) })),
    context,
  );
}

/** The candidates of {@link chooseWorld}. Throws what it throws before it measures. */
export function checkWorlds(model: Model, options: GeneratorOptions): ParallelSizes[] {
  refuseSharedGpu(options);
  return worldCandidates(model, options, allCores());
}

const NEVER: WorldTimes = { stepMs: Number.POSITIVE_INFINITY, promptTokenMs: undefined };

/**
 * The fastest of candidates, of which there is at least one, and why; of those that are about as fast the first, which
 * has the fewest ranks.
 */
export function chooseFastest(candidates: readonly WorldCandidate[], context: number): WorldChoice {
  const cost = ({ stepMs, promptTokenMs = 0 }: WorldTimes): number => stepMs + promptTokenMs;
  const [first, ...others] = candidates;
  if (first === undefined) throw new RangeError("there is no candidate");
  let best = first;
  for (const candidate of others) if (cost(candidate) * WORTH < cost(best)) best = candidate;
  const all = candidates.map(({ sizes }) => sizes);
  const ms = ({ sizes, stepMs, promptTokenMs }: WorldCandidate): string =>
    `${stepMs.toFixed(1)} ms${promptTokenMs === undefined ? "" : ` (${promptTokenMs.toFixed(1)})`} on ${worldName(sizes, all)}`;
  const verb = best.sizes.world === 1 ? "is" : "are";
  const most = candidates.every((candidate) => cost(candidate) >= cost(best))
    ? "fastest"
    : "as fast as any, within 5 %,";
  const what = first.promptTokenMs === undefined ? "at first a step takes" : "a step (a prompt's token) takes";
  const steps = `at ${context} tokens: ${what} ${candidates.map(ms).join(", ")}`;
  const reason = `${worldName(best.sizes, all)} ${verb} ${most} ${steps}`;
  return { sizes: best.sizes, candidates, context, reason };
}

/** `2 ranks`, with what tells it from others with as many. */
function worldName(sizes: ParallelSizes, all: readonly ParallelSizes[]): string {
  const ranks = `${sizes.world} ${sizes.world === 1 ? "rank" : "ranks"}`;
  return all.filter(({ world }) => world === sizes.world).length > 1 ? `${ranks} with DCP${sizes.dcp}` : ranks;
}

/** Tokens of a text: as many as it may have or, when nobody says, as texts mostly have at most. */
function contextOf(model: Model, options: GeneratorOptions, sizes: ParallelSizes | undefined): number {
  if (options.capacity !== undefined || sizes === undefined) return options.capacity ?? 1;
  return Math.min(USUAL_TOKENS, planOptions(model, spreadOptions(options, sizes)).capacity);
}

async function measureHere(
  model: Model,
  options: GeneratorOptions,
  candidates: readonly ParallelSizes[],
  context: number,
): Promise<readonly WorldTimes[]> {
  await using trial = await WorldTrial.open(
    model,
    candidates.map((sizes) => spreadOptions(options, sizes)),
    context,
  );
  return await trial.measure();
}
