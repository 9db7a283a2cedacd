import {
  type MethodsOf,
  type OptionsOf,
  openWorld,
  type Program,
  parallelGroups,
  type World,
} from "@lockstep/dist-groups";
import { LoadProgress, LoadWatch } from "./load-progress.ts";
import { checkReach } from "../model/model-files.ts";
import { checkOwnProgram } from "./own-program.ts";
import { gpuGroups } from "./rank-backend.ts";
import type { RankOptions } from "./rank-options.ts";
import type { ResolvedOptions } from "./resolve-options.ts";

/** Until all ranks have loaded. */
export const START_DEADLINE_MS = 300_000;

/** The program that ranks run over a model, and what is its own. */
export interface RanksProgram<P extends Program> {
  /** Its module. Workers of the caller's own run it by `runGeneratorRank`. */
  readonly program: URL;
  readonly options: OptionsOf<P> & RankOptions;
  /** Bytes of the host's heap that its host takes. */
  readonly heapBytes: number;
  /** Asks ranks what they run. */
  readonly identify: (world: World<MethodsOf<P>>) => Promise<readonly unknown[]>;
}

/**
 * Starts ranks that run a program over a model; resolves once all have loaded their share.
 * @throws ArgumentError for workers that run another program, and whatever stopped a rank
 */
export async function openRanks<P extends Program>(
  { onLoad, weightBytes, worker, heapBytesPerRank, deadlineMs }: ResolvedOptions,
  { program, options, heapBytes, identify }: RanksProgram<P>,
): Promise<World<MethodsOf<P>>> {
  const { model, sizes, gpus } = options;
  const { world: size, dcp } = sizes;
  let progress: LoadProgress | undefined;
  let watch: LoadWatch | undefined;
  const opening = openWorld<P>({
    size,
    ...(worker === undefined ? { program } : { worker }),
    options: ({ heap, processes }) => {
      checkReach("Generator.open", model, processes.length);
      if (onLoad === undefined) return options;
      progress = LoadProgress.create(heap, size, processes[0]?.length ?? size);
      watch = new LoadWatch(progress, (bytes) => onLoad(bytes, weightBytes));
      return { ...options, loaded: progress.descriptor };
    },
    heapBytesPerRank,
    groups: { dcp: parallelGroups({ layout: "classic", tp: size, dcp }).dcp, gpu: gpuGroups(size, gpus) },
    heapBytesHost: heapBytes + LoadProgress.heapBytes(size),
    startDeadlineMs: START_DEADLINE_MS,
    deadlineMs,
  });
  const world = await opening.finally(() => watch?.stop());
  try {
    watch?.check();
    progress?.free();
    if (worker !== undefined) await checkOwnProgram(() => identify(world));
    return world;
  } catch (error) {
    await world.close();
    throw error;
  }
}
