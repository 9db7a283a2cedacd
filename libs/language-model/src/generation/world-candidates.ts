// Which ways of spreading a model are tried when nobody says over how many ranks.
import { UnfitOptions } from "../errors.ts";
import type { Model } from "../model/model.ts";
import { chooseKvLayout, leastDcp, type ParallelSizes } from "../model/tensor-parallel.ts";
import { checkModel, checkValues } from "./check-options.ts";
import type { GeneratorOptions, SizedOptions } from "./generator-options.ts";
import { namedRanks } from "./kv-shares.ts";
import { launchedTogether } from "./machine-cores.ts";
import { fittingContext, resolveOptions } from "./resolve-options.ts";

/** Most ranks that are tried where fewer do not hold a model. */
const MOST_RANKS = 64;

/** Options of a generator spread as a candidate says. */
export function spreadOptions(options: GeneratorOptions, { world, dcp, kvLayout }: ParallelSizes): SizedOptions {
  return { ...options, world, dcp, kvHeads: kvLayout };
}

/** Throws {@link UnfitOptions} for ranks that share a GPU, whose number has to be given. */
export function refuseSharedGpu(options: Pick<GeneratorOptions, "sharedGpu">): void {
  if (options.sharedGpu !== true) return;
  throw new UnfitOptions("`world` auto cannot time ranks that share a GPU: take a number, or no `sharedGpu`.");
}

/**
 * The sizes that a model may be spread by, fewest ranks first: 1, 2, 4, ... ranks up to the cores, or `dcp` times as
 * many; for each the layout that stores no KV head twice and, where that splits tokens, the one that splits none, which
 * gathers and combines nothing. Only what fits the model and the memory that there is; without a capacity only what
 * holds the longest context. Where so few ranks do not hold it, the fewest that do.
 * @throws what `Generator.open` throws of a number of ranks, when none fits
 */
export function worldCandidates(model: Model, options: GeneratorOptions, cores: number): ParallelSizes[] {
  const { fitting, last } = triedSizes(model, options, cores);
  // Throws: none fits.
  if (fitting.length === 0) resolveOptions(model, spreadOptions(options, last));
  return fitting;
}

/**
 * Those sizes; none may fit. `last` are the ones of the most ranks that were tried.
 * @throws ArgumentError for a value that no model takes; UnfitOptions for a `dcp` that no number of ranks allows
 */
export function triedSizes(
  model: Model,
  options: GeneratorOptions,
  cores: number,
): { readonly fitting: ParallelSizes[]; readonly last: ParallelSizes } {
  checkModel(model);
  checkValues({ ...options, world: 1 });
  const { kvHeads, queryHeads } = model.config;
  const { dcp: givenDcp = namedRanks(options), kvHeads: wanted = "auto" } = options;
  if (givenDcp !== undefined && givenDcp > queryHeads) {
    throw new UnfitOptions(`\`dcp\` must be at most the model's ${queryHeads} query heads, but is ${givenDcp}.`);
  }
  const first = givenDcp ?? 1;
  let last: ParallelSizes = { world: first, dcp: first, kvLayout: "replicated" };
  const fitting: { readonly sizes: ParallelSizes; readonly capacity: number }[] = [];
  for (const world of worldsToTry(first, Math.min(MOST_RANKS, queryHeads))) {
    if (world > cores && fitting.length > 0) break;
    const dcps = givenDcp === undefined ? [leastDcp(world, kvHeads, wanted), 1] : [givenDcp];
    for (const dcp of new Set(dcps)) {
      const kvLayout = wanted === "auto" ? chooseKvLayout(world, dcp, kvHeads) : wanted;
      const sizes = { world, dcp, kvLayout };
      last = sizes;
      const capacity = fittingContext(model, spreadOptions(options, sizes));
      if (capacity !== undefined) fitting.push({ sizes, capacity });
    }
  }
  const most = Math.max(...fitting.map(({ capacity }) => capacity));
  return { fitting: fitting.filter(({ capacity }) => capacity === most).map(({ sizes }) => sizes), last };
}

/** Numbers of ranks. Who starts several processes together wants a rank in each. */
function worldsToTry(first: number, most: number): number[] {
  const processes = launchedTogether();
  if (processes > 1) return processes < first || processes > most ? [] : [processes];
  const worlds: number[] = [];
  for (let world = first; world <= most; world *= 2) worlds.push(world);
  return worlds;
}
