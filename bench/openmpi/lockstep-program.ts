// The ranks' side of the bench against OpenMPI: the same cases, fills and checks as mpi-peer.c.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";
import { BATCHES, brought, type Case } from "./cases.ts";

/** Seconds of a call, one sample per batch, on this rank. */
export interface CaseSamples {
  readonly seconds: readonly number[];
  /** Copying as many bytes as the collective moves for this rank (see {@link movedBytes}). */
  readonly memcpySeconds: readonly number[];
}

interface Prepared {
  readonly tensors: readonly Tensor[];
  readonly input: Tensor;
  readonly output: Tensor;
  readonly run: () => void;
  /** What element `index` of the output must be. */
  readonly expected: (index: number, batch: number) => number;
}

const WARM_UP_MS = 400;
const HAND_OVERS = 20_000;

/** Called by the world on every rank. */
export function setup({ heap, world }: RankContext) {
  const { rank, size } = world;
  /** The case of the last window. */
  let kept: { readonly key: string; readonly prepared: Prepared } | undefined;
  return {
    /** Seconds of a call, over `calls` calls: filled before, checked after. Windows of one case share their tensors. */
    window({ name, bytes, calls }: Omit<Case, "rounds"> & { readonly calls: number }, batch: number): number {
      const key = `${name} ${bytes}`;
      if (kept?.key !== key) {
        for (const tensor of kept?.prepared.tensors ?? []) tensor.free();
        kept = { key, prepared: prepare(name, bytes / 4) };
      }
      const { prepared } = kept;
      fill(name, prepared, batch);
      world.barrier();
      // A call of the host has just come: the main threads look for more of them for two milliseconds.
      for (let call = 0; call < calls / 4; call++) prepared.run();
      const started = performance.now();
      for (let call = 0; call < calls; call++) prepared.run();
      const seconds = (performance.now() - started) / calls / 1e3;
      world.barrier();
      check(name, prepared, batch);
      return seconds;
    },
    /**
     * Seconds of the least a barrier can do: every rank stores a word and waits until it sees every peer's, by spinning
     * alone. Only with a core per rank.
     */
    timeHandOver(): number[] {
      const { words, of } = sharedLines();
      const own = of[rank] ?? 0;
      let turn = 0;
      const handOver = (): void => {
        turn++;
        Atomics.store(words, own, turn);
        for (let peer = 0; peer < size; peer++) {
          const word = of[peer] ?? 0;
          while (Atomics.load(words, word) < turn);
        }
      };
      warmUp(handOver, HAND_OVERS);
      const seconds: number[] = [];
      for (let batch = 0; batch < BATCHES; batch++) {
        world.barrier();
        const started = performance.now();
        for (let call = 0; call < HAND_OVERS; call++) handOver();
        seconds.push((performance.now() - started) / HAND_OVERS / 1e3);
      }
      world.barrier();
      return seconds;
    },
    time({ name, bytes, rounds }: Case): CaseSamples {
      const prepared = prepare(name, bytes / 4);
      const calls = Math.ceil(rounds / BATCHES);
      const seconds: number[] = [];
      fill(name, prepared, 0);
      warmUp(prepared.run, calls);
      for (let batch = 0; batch < BATCHES; batch++) {
        fill(name, prepared, batch + 1);
        world.barrier();
        const started = performance.now();
        for (let call = 0; call < calls; call++) prepared.run();
        const elapsed = performance.now() - started;
        world.barrier();
        seconds.push(elapsed / calls / 1e3);
        check(name, prepared, batch + 1);
      }
      world.barrier();
      const memcpySeconds = bytes < 1 << 10 ? [] : timeMemcpy(movedBytes(name, bytes), calls);
      for (const tensor of prepared.tensors) tensor.free();
      return { seconds, memcpySeconds };
    },
  };

  /** Word `at` of rank `peer`'s line, wherever the line lies. */
  function sharedLines(): { readonly words: Int32Array; readonly of: readonly number[] } {
    const line = Tensor.zeros(heap, "i32", [32]);
    const places = Tensor.zeros(heap, "u32", [size]);
    world.allGather(Tensor.from(heap, "u32", [1], [line.byteOffset]), places);
    const words = new Int32Array(heap.buffer);
    return { words, of: [...places.toNumbers()].map((byteOffset) => byteOffset / 4) };
  }

  /**
   * Calls until the just-in-time compilers have done their work, beside which no rank has a core to itself. Rank 0
   * decides.
   */
  function warmUp(run: () => void, calls: number): void {
    const more = Tensor.zeros(heap, "i32", [1]);
    const until = performance.now() + WARM_UP_MS;
    do {
      for (let call = 0; call < calls; call++) run();
      more.i32[0] = performance.now() < until ? 1 : 0;
      world.broadcast(more, 0);
    } while (more.i32[0] === 1);
    more.free();
  }

  /** Bytes that a rank has to write for its result, or, where that is less, to read: what its memcpy copies. */
  function movedBytes(name: Case["name"], bytes: number): number {
    return name === "all-gather" ? bytes * size : bytes;
  }

  function timeMemcpy(bytes: number, calls: number): number[] {
    const [from, to] = [Tensor.zeros(heap, "u8", [bytes]).fill(1), Tensor.zeros(heap, "u8", [bytes])];
    const [source, target] = [from.bytes, to.bytes];
    const samples: number[] = [];
    target.set(source);
    for (let batch = 0; batch < BATCHES; batch++) {
      world.barrier();
      const started = performance.now();
      for (let call = 0; call < calls; call++) target.set(source);
      samples.push((performance.now() - started) / calls / 1e3);
    }
    from.free();
    to.free();
    return samples;
  }

  function fill(name: Case["name"], { input, output }: Prepared, batch: number): void {
    const target = name === "broadcast" && rank === 0 ? output : input;
    if (target !== output) output.fill(-1);
    const elements = target.f32;
    for (let index = 0; index < elements.length; index++) elements[index] = brought(rank, index, batch);
  }

  function check(name: Case["name"], { output, expected }: Prepared, batch: number): void {
    const elements = output.f32;
    for (let index = 0; index < elements.length; index++) {
      const [found, wanted] = [elements[index], expected(index, batch)];
      if (found !== wanted) {
        throw new Error(`${name}, rank ${rank}: wrong data, element ${index} is ${found} instead of ${wanted}`);
      }
    }
  }

  function sum(index: number, batch: number): number {
    let total = 0;
    for (let peer = 0; peer < size; peer++) total += brought(peer, index, batch);
    return total;
  }

  function prepare(name: Case["name"], count: number): Prepared {
    const part = count / size;
    const make = (length: number): Tensor => Tensor.zeros(heap, "f32", [length]);
    const between = (
      inputCount: number,
      outputCount: number,
      expected: Prepared["expected"],
      run: (input: Tensor, output: Tensor) => () => void,
    ): Prepared => {
      const [input, output] = [make(inputCount), make(outputCount)];
      return { tensors: [input, output], input, output, expected, run: run(input, output) };
    };
    switch (name) {
      case "barrier":
        return between(
          0,
          0,
          () => 0,
          () => () => world.barrier(),
        );
      case "all-gather":
        return between(
          count,
          count * size,
          (index, batch) => brought(Math.floor(index / count), index % count, batch),
          (input, output) => () => world.allGather(input, output),
        );
      case "reduce-scatter":
        return between(
          count,
          part,
          (index, batch) => sum(rank * part + index, batch),
          (input, output) => () => world.reduceScatter(input, output),
        );
      case "all-reduce":
        return between(count, count, sum, (input, output) => () => world.allReduce(input, output));
      case "all-to-all":
        return between(
          count,
          count,
          (index, batch) => brought(Math.floor(index / part), rank * part + (index % part), batch),
          (input, output) => {
            const [inputs, outputs] = [split(input, part), split(output, part)];
            return () => world.allToAll(inputs, outputs);
          },
        );
      case "broadcast":
        return between(
          0,
          count,
          (index, batch) => brought(0, index, batch),
          (_, output) => () => world.broadcast(output, 0),
        );
    }
  }

  function split(tensor: Tensor, part: number): Tensor[] {
    return Array.from({ length: size }, (_, peer) => tensor.slice(0, peer * part, (peer + 1) * part));
  }
}
