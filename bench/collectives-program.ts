// The rank's side of the collectives bench: repeats one collective, checks its data, and times it against memcpy.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

/** The collectives that are timed. */
export type CollectiveName = "barrier" | "all-gather" | "reduce-scatter" | "all-reduce" | "all-to-all" | "broadcast";

/** One row of the bench: a collective over `bytes` in all (nccl-tests' size), `rounds` times. */
export interface CollectiveRow {
  readonly name: CollectiveName;
  readonly bytes: number;
  readonly rounds: number;
}

/** Medians on this rank. */
export interface CollectiveTiming {
  readonly seconds: number;
  /** Copying the bytes this rank has to write. */
  readonly memcpySeconds: number;
}

interface Prepared {
  readonly run: () => void;
  /** Throws when the data is wrong. */
  readonly check: () => void;
  readonly writtenBytes: number;
  readonly tensors: readonly Tensor[];
}

/** Called by the world on every rank. */
export function setup({ heap, world }: RankContext) {
  return {
    time({ name, bytes, rounds }: CollectiveRow): CollectiveTiming {
      const prepared = prepare(name, bytes);
      // Enough for the just-in-time compilers to be done.
      const warmUps = Math.max(20, Math.min(20_000, Math.floor((256 << 20) / Math.max(1, bytes))));
      for (let round = 0; round < warmUps; round++) prepared.run();
      prepared.check();
      const batch = Math.max(1, Math.ceil(rounds / 20));
      const samples: number[] = [];
      for (let done = 0; done < rounds; done += batch) {
        const started = performance.now();
        for (let index = 0; index < batch; index++) prepared.run();
        samples.push((performance.now() - started) / batch / 1e3);
      }
      prepared.check();
      world.barrier();
      const memcpySeconds = timeMemcpy(prepared.writtenBytes, rounds);
      world.barrier();
      for (const tensor of prepared.tensors) tensor.free();
      return { seconds: median(samples), memcpySeconds };
    },
  };

  function timeMemcpy(bytes: number, rounds: number): number {
    if (bytes === 0) return 0;
    const [from, to] = [Tensor.zeros(heap, "u8", [bytes]), Tensor.zeros(heap, "u8", [bytes])];
    const [source, target] = [from.bytes, to.bytes];
    const batch = Math.max(1, Math.ceil(rounds / 20));
    const samples: number[] = [];
    for (let done = 0; done < rounds; done += batch) {
      const started = performance.now();
      for (let index = 0; index < batch; index++) target.set(source);
      samples.push((performance.now() - started) / batch / 1e3);
    }
    from.free();
    to.free();
    return median(samples);
  }

  function prepare(name: CollectiveName, bytes: number): Prepared {
    const { rank, size } = world;
    const count = Math.max(size, Math.floor(bytes / 4 / size) * size);
    const chunk = count / size;
    const whole = Tensor.zeros(heap, "f32", [count]);
    const part = Tensor.zeros(heap, "f32", [chunk]);
    const base = { tensors: [whole, part] };
    const expectAll = (tensor: Tensor, value: (index: number) => number): void => {
      const numbers = tensor.f32;
      for (let index = 0; index < numbers.length; index++) {
        if (numbers[index] !== value(index)) throw new Error(`${name}: element ${index} is ${numbers[index]}`);
      }
    };
    const sum = (size * (size + 1)) / 2;
    switch (name) {
      case "barrier":
        return { ...base, run: () => world.barrier(), check: () => undefined, writtenBytes: 0 };
      case "all-gather":
        part.fill(rank + 1);
        return {
          ...base,
          run: () => world.allGather(part, whole),
          check: () => expectAll(whole, (index) => Math.floor(index / chunk) + 1),
          writtenBytes: whole.byteLength,
        };
      case "reduce-scatter":
        whole.fill(rank + 1);
        return {
          ...base,
          run: () => world.reduceScatter(whole, part),
          check: () => expectAll(part, () => sum),
          writtenBytes: part.byteLength,
        };
      case "all-reduce": {
        whole.fill(rank + 1);
        const result = Tensor.zeros(heap, "f32", [count]);
        return {
          tensors: [whole, part, result],
          run: () => world.allReduce(whole, result),
          check: () => expectAll(result, () => sum),
          writtenBytes: result.byteLength,
        };
      }
      case "all-to-all": {
        const sent = Tensor.zeros(heap, "f32", [count]).fill(rank + 1);
        const split = (tensor: Tensor): Tensor[] =>
          Array.from({ length: size }, (_, peer) => tensor.slice(0, peer * chunk, (peer + 1) * chunk));
        const [inputs, outputs] = [split(sent), split(whole)];
        return {
          tensors: [whole, part, sent],
          run: () => world.allToAll(inputs, outputs),
          check: () => expectAll(whole, (index) => Math.floor(index / chunk) + 1),
          writtenBytes: whole.byteLength,
        };
      }
      case "broadcast":
        whole.fill(rank === 0 ? 7 : 0);
        return {
          ...base,
          run: () => world.broadcast(whole, 0),
          check: () => expectAll(whole, () => 7),
          writtenBytes: rank === 0 ? 0 : whole.byteLength,
        };
    }
  }
}

function median(samples: number[]): number {
  return samples.sort((a, b) => a - b)[samples.length >> 1] ?? Number.NaN;
}
