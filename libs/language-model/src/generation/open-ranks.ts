import { type MethodsOf, openWorld, parallelGroups, type World } from "@lockstep/dist-groups";
import { LoadWatch } from "./load-progress.ts";
import { hostHeapBytes } from "./memory-plan.ts";
import { checkOwnProgram } from "./own-program.ts";
import { gpuGroups } from "./rank-backend.ts";
import type { ResolvedOptions } from "./resolve-options.ts";

/** Until all ranks have loaded. */
export const START_DEADLINE_MS = 300_000;

type Program = typeof import("./rank-program.ts");

/** The ranks of a generator, and what the host may call on them. */
export type GeneratorRanks = World<MethodsOf<Program>>;

/**
 * Starts the ranks of a generator; resolves once all have loaded their share of the model.
 * @throws ArgumentError for workers that run another program, and whatever stopped a rank
 */
export async function openRanks({
  rank,
  onLoad,
  weightBytes,
  worker,
  heapBytesPerRank,
  deadlineMs,
}: ResolvedOptions): Promise<GeneratorRanks> {
  const { sizes, gpus, maxLogitRows, loaded } = rank;
  const { world: size, dcp } = sizes;
  const watch = onLoad === undefined ? undefined : new LoadWatch(loaded, (bytes) => onLoad(bytes, weightBytes));
  const opening = openWorld<Program>({
    size,
    ...(worker === undefined ? { program: new URL("./rank-program.ts", import.meta.url) } : { worker }),
    options: rank,
    heapBytesPerRank,
    groups: { dcp: parallelGroups({ layout: "classic", tp: size, dcp }).dcp, gpu: gpuGroups(size, gpus) },
    heapBytesHost: hostHeapBytes(maxLogitRows),
    startDeadlineMs: START_DEADLINE_MS,
    deadlineMs,
  });
  const world = await opening.finally(() => watch?.stop());
  try {
    watch?.check();
    if (worker !== undefined) await checkOwnProgram(() => world.call("identify", []));
    return world;
  } catch (error) {
    await world.close();
    throw error;
  }
}
