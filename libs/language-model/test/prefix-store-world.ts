// Worlds of the tests of saved prefixes.
import { type MethodsOf, openWorld, parallelGroups, type World } from "@lockstep/dist-groups";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { resolveOptions } from "../src/generation/resolve-options.ts";
import { openModel } from "../src/model/model.ts";
import type * as program from "./prefix-store-program.ts";

/** How a world of the tests is made. */
export type StoreSettings = Pick<
  GeneratorOptions,
  "weights" | "kvDtype" | "kvWeights" | "dcp" | "interleave" | "blockSize"
> & {
  readonly world: number;
};

/** A world that computes texts with the model of a folder. */
export function openStoreWorld(folder: string, settings: StoreSettings): Promise<World<MethodsOf<typeof program>>> {
  const options = { backend: "wasm", capacity: 120, texts: 2, maxStepTokens: 40, blockSize: 4, ...settings } as const;
  const { rank } = resolveOptions(openModel(folder), options);
  return openWorld<typeof program>({
    size: settings.world,
    program: new URL("./prefix-store-program.ts", import.meta.url),
    options: rank,
    heapBytesPerRank: 64 << 20,
    groups: { dcp: parallelGroups({ layout: "classic", tp: settings.world, dcp: rank.sizes.dcp }).dcp },
  });
}
