// The ranks' side of bench/staging.ts.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";
import { median } from "./openmpi/cases.ts";

export const STAGED_COLLECTIVES = ["all-gather", "reduce-scatter", "all-reduce", "all-to-all", "broadcast"] as const;
type StagedCollective = (typeof STAGED_COLLECTIVES)[number];

const BATCHES = 15;
const BATCH_MS = 4;
const WARM_UP_MS = 60;

/** Called by the world on every rank. */
export function setup({ heap, world }: RankContext) {
  const { rank, size } = world;
  const calls = Tensor.zeros(heap, "f32", [1]);

  return {
    /** Median seconds of a call in which every rank brings `bytes`, all of them new. */
    time(name: StagedCollective, bytes: number): number {
      const count = bytes / 4;
      const part = Math.floor(count / size);
      const input = Tensor.zeros(heap, "f32", [part * size]);
      const output = Tensor.zeros(heap, "f32", [name === "all-gather" ? part * size * size : part * size]);
      const split = (tensor: Tensor): Tensor[] =>
        Array.from({ length: size }, (_, peer) => tensor.slice(0, peer * part, (peer + 1) * part));
      const [inputs, outputs] = [split(input), split(output)];
      const own = output.slice(0, 0, part);
      const runs: Readonly<Record<StagedCollective, () => void>> = {
        "all-gather": () => world.allGather(input, output),
        "reduce-scatter": () => world.reduceScatter(input, own),
        "all-reduce": () => world.allReduce(input, output),
        "all-to-all": () => world.allToAll(inputs, outputs),
        broadcast: () => world.broadcast(input, 0),
      };
      const run = runs[name];
      const elements = input.f32;
      let turn = 0;
      const call = (): void => {
        turn = (turn + 1) % 1000;
        elements.fill(turn + rank);
        run();
      };
      let perBatch = 8;
      const until = performance.now() + WARM_UP_MS;
      for (;;) {
        const started = performance.now();
        for (let done = 0; done < perBatch; done++) call();
        const each = (performance.now() - started) / perBatch;
        // Rank 0 decides how many calls a batch has.
        calls.f32[0] = performance.now() < until ? 0 : Math.max(8, Math.ceil(BATCH_MS / each));
        world.broadcast(calls, 0);
        if (calls.f32[0] !== 0) break;
        perBatch = 64;
      }
      perBatch = calls.f32[0] ?? perBatch;
      const seconds: number[] = [];
      for (let batch = 0; batch < BATCHES; batch++) {
        world.barrier();
        const started = performance.now();
        for (let done = 0; done < perBatch; done++) call();
        seconds.push((performance.now() - started) / perBatch / 1e3);
      }
      check(name, turn, input, output, part);
      world.barrier();
      input.free();
      output.free();
      return median(seconds);
    },
  };

  function check(name: StagedCollective, turn: number, input: Tensor, output: Tensor, part: number): void {
    const sum = size * turn + (size * (size - 1)) / 2;
    const first: Readonly<Record<StagedCollective, number | undefined>> = {
      "all-gather": turn + size - 1,
      "reduce-scatter": part > 0 ? sum : undefined,
      "all-reduce": sum,
      "all-to-all": turn + size - 1,
      broadcast: turn,
    };
    const results = name === "broadcast" ? input.f32 : output.f32;
    const found = results[name === "reduce-scatter" ? part - 1 : results.length - 1];
    if (found !== first[name]) throw new Error(`${name}: found ${found} instead of ${first[name]}`);
  }
}
