// Random valid attention over worlds of ranks, against float64.
import type { KvScaling } from "@lockstep/attention";
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import { isQuantised } from "@lockstep/kernels";
import type { DType } from "@lockstep/tensor";
import type * as program from "../../libs/attention/test/attention-program.ts";
import { expectNear, type FeatureCase, prepareCase } from "../../libs/attention/test/feature-cases.ts";
import type { TestBackend } from "../../libs/attention/test/test-backend.ts";
import { RandomStream } from "../random.ts";

const WORLDS: readonly (readonly [TestBackend, number])[] = [
  ["wasm", 1],
  ["wasm", 2],
  ["wasm", 3],
  ["wasm", 4],
  ["wasm", 5],
  ["wasm", 8],
  ["reference", 2],
  ["webgpu", 1],
  ["webgpu", 2],
  ["webgpu shared", 3],
];

/** Worlds that are opened when they are first wanted, and replay random cases. */
export class AttentionFuzz {
  readonly #worlds = new Map<string, World<MethodsOf<typeof program>>>();

  /** Runs one case. @throws Error that names what differs from float64 */
  async run(seed: number): Promise<void> {
    const random = new RandomStream(seed);
    const [backend, size] = WORLDS[random.below(WORLDS.length)] ?? ["wasm", 1];
    const item = randomCase(random, size);
    const world = await this.#world(backend, size);
    const prepared = prepareCase(item, world.heap, seed);
    try {
      prepared.out.fill(Number.NaN);
      prepared.lse.fill(Number.NaN);
      await world.call("replay", [prepared.replay]);
      const tolerance = item.tolerance ?? 1e-4;
      expectNear("out", prepared.out, prepared.expectedOut, tolerance);
      expectNear("lse", prepared.lse, prepared.expectedLse, tolerance);
    } catch (error) {
      throw new Error(`${size} ranks of ${backend}: ${JSON.stringify(item)}`, { cause: error });
    } finally {
      prepared.free();
    }
  }

  async close(): Promise<void> {
    for (const world of this.#worlds.values()) await world.close();
    this.#worlds.clear();
  }

  async #world(backend: TestBackend, size: number): Promise<World<MethodsOf<typeof program>>> {
    const key = `${size} ${backend}`;
    let world = this.#worlds.get(key);
    if (world === undefined) {
      world = await openWorld<typeof program>({
        size,
        program: new URL("../../libs/attention/test/attention-program.ts", import.meta.url),
        options: { backend },
        deadlineMs: 300_000,
      });
      this.#worlds.set(key, world);
    }
    return world;
  }
}

function randomCase(random: RandomStream, size: number): FeatureCase {
  const pick = <T>(...choices: readonly [T, ...T[]]): T => choices[random.below(choices.length)] ?? choices[0];
  const sequences = 1 + random.below(4);
  const steps = Array.from({ length: 1 + random.below(4) }, (_, step) =>
    Array.from({ length: sequences }, () => pick(0, 1, 1, 2, step === 0 ? random.below(60) : random.below(5))),
  );
  const mla = random.next() < 0.15;
  const kvHeads = mla ? 1 : pick(1, 1, 2, 3);
  const queryHeads = kvHeads * pick(1, 2, 3, 4, 8);
  const keyDim = pick(1, 3, 4, 7, 8, 16, 33, 64);
  const valueDim = mla ? 1 + random.below(keyDim) : pick(keyDim, keyDim, 1, 5, 16);
  const kvDtype = pick<DType>("f32", "f32", "f16", "bf16", "f8e4m3", "i8");
  const blockSize = pick(1, 2, 3, 4, 8, 16);
  const divisors = Array.from({ length: blockSize }, (_, at) => at + 1).filter((count) => blockSize % count === 0);
  const combine = pick("auto", "ag-rs", "a2a", "one-shot");
  const rounds = size > 1 && (combine === "a2a" || combine === "auto") && random.next() < 0.2;
  const gathersF8 = random.next() < 0.15;
  const sinks = random.next() < 0.25 ? Array.from({ length: queryHeads }, () => pick(-50, -1, 0, 2, 40)) : undefined;
  const scale = (): number => (kvDtype === "i8" ? 0.03 : 0.02) * (1 + random.next());
  const keyScales = Array.from({ length: kvHeads }, scale);
  const kvScales: KvScaling | undefined = !isQuantised(kvDtype)
    ? undefined
    : random.next() < 0.5
      ? "per-token"
      : mla
        ? { key: keyScales }
        : { key: pick<number | number[]>(scale(), keyScales), value: scale() };
  return {
    name: "random",
    steps,
    queryHeads,
    kvHeads,
    keyDim,
    valueDim,
    kvDtype,
    blockSize,
    tolerance: rounds ? 2e-2 : kvDtype === "f32" && !gathersF8 ? 2e-5 * Math.max(1, keyDim / 16) : 1e-3,
    ...(sinks === undefined ? {} : { sinks }),
    options: {
      interleave: divisors[random.below(divisors.length)] ?? 1,
      combine,
      ...(mla ? { mla } : {}),
      ...(kvScales === undefined ? {} : { kvScales }),
      ...(rounds ? { partialDtype: "bf16" as const } : {}),
      ...(gathersF8 ? { gatherDtype: "f8e4m3" as const, queryScale: pick(0.01, 0.02, 1) } : {}),
      ...(random.next() < 0.3 ? { window: 1 + random.below(40) } : {}),
      ...(random.next() < 0.3 ? { softcap: pick(0.5, 2, 30) } : {}),
      ...(random.next() < 0.3 ? { scale: pick(0, -0.3, 0.1, 1) } : {}),
      ...(random.next() < 0.2 ? { lseBase: "2" as const } : {}),
      ...(!gathersF8 && random.next() < 0.2 ? { queryReplicated: true } : {}),
      ...(random.next() < 0.4 ? { weights: randomWeights(random, size) } : {}),
    },
  };
}

/** Shares of ranks, of which some may store nothing. */
function randomWeights(random: RandomStream, ranks: number): readonly number[] {
  const weights = Array.from({ length: ranks }, () => Math.max(0, random.below(7) - 1));
  return weights.some((weight) => weight > 0) ? weights : weights.map(() => 1);
}
