// Digests of the logits that texts get on a world, whose ranks run row-bits-program.ts.
import { openWorld, parallelGroups } from "@lockstep/dist-groups";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { gpuGroups } from "../src/generation/rank-backend.ts";
import { resolveOptions } from "../src/generation/resolve-options.ts";
import type { Model } from "../src/model/model.ts";
import type * as program from "./row-bits-program.ts";
import type { LogitBits, ModelStep } from "./row-bits-program.ts";
import { MAX_STEP_TOKENS } from "./text-schedule.ts";

/** How a model is spread. */
export type Layout = Pick<GeneratorOptions, "kvHeads" | "kvWeights" | "interleave" | "blockSize" | "combine"> & {
  readonly world: number;
  readonly dcp: number;
  /** As of row-bits-program.ts. Default false. */
  readonly hasOwnMemory?: boolean;
};

/** What is the same on every world that is compared. */
export type Settings = Pick<GeneratorOptions, "weights" | "kvDtype" | "backend" | "softwareVulkan" | "sharedGpu"> & {
  /** As of row-bits-program.ts. */
  readonly isPlain: boolean;
};

/** What every token of three texts got, of whole rows of logits, in the order of the steps. */
export async function logitsOf(
  model: Model,
  { hasOwnMemory = false, ...layout }: Layout,
  { isPlain, ...settings }: Settings,
  steps: readonly ModelStep[],
): Promise<LogitBits[]> {
  // No text has more tokens than all steps together bring.
  const tokens = steps
    .flatMap(({ items }) => items)
    .reduce((sum, { ids, drafted }) => sum + ids.length + drafted.length, 0);
  const capacity = Math.min(model.config.maxPositions, tokens);
  const sizes = { capacity, texts: 3, maxStepTokens: MAX_STEP_TOKENS, blockSize: 8 };
  const { rank } = resolveOptions(model, { backend: "wasm", ...sizes, ...settings, ...layout });
  const { world, dcp } = rank.sizes;
  await using ranks = await openWorld<typeof program>({
    size: world,
    program: new URL("./row-bits-program.ts", import.meta.url),
    options: { ...rank, sizes: { ...rank.sizes, deterministic: "world-invariant" as const }, isPlain, hasOwnMemory },
    heapBytesPerRank: 48 << 20,
    // Short steps go through staging memory, long ones do not.
    stagingBytes: 2048,
    deadlineMs: 100_000,
    groups: { dcp: parallelGroups({ layout: "classic", tp: world, dcp }).dcp, gpu: gpuGroups(world, 1) },
  });
  const [first = [], ...others] = await ranks.call("run", [3, steps]);
  return first.map(([text, position, ...own], token) => {
    const sum = (place: 0 | 1): number =>
      others.reduce((total, rows) => (total + (rows[token]?.[2 + place] ?? Number.NaN)) >>> 0, own[place]);
    return [text, position, sum(0), sum(1)];
  });
}
