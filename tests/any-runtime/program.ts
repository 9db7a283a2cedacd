// What every rank does in the check of worlds that runs in Bun, in Deno, in Node and in a page alike: every collective,
// blocking and as a promise, over all dtypes, and the ways to fail. Imports the packages alone, so that it can be
// bundled, and run where they are installed.

import type { AsyncProcessGroup, ProcessGroup, RankContext } from "@lockstep/dist-groups";
import { Arena, DTYPES, type DType, elementCount, isFloatDType, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** Rows of a rank: small enough to be staged, and large enough to be read where they lie. */
const EXTENTS = [3, 40, 600];
const REDUCTIONS = ["sum", "max", "min"] as const;
const isReduced = (dtype: DType): boolean => dtype !== "f8e4m3" && dtype !== "i8";

/** The bits of tensors, mixed into one number (FNV-1a). */
class Digest {
  value = 2166136261;

  add(...tensors: readonly Tensor[]): void {
    for (const { bytes } of tensors) {
      let value = this.value;
      for (let at = 0; at < bytes.length; at++) value = Math.imul(value ^ (bytes[at] ?? 0), 16777619);
      this.value = value >>> 0;
    }
  }
}

/** A tensor whose numbers are a function of `seed`; those of floats vary in size, so that sums round. */
function filled(arena: Arena, dtype: DType, shape: readonly number[], seed: number): Tensor {
  let word = Math.imul(seed + 1, 2654435761) >>> 0;
  const next = (): number => {
    word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
    return word / 2 ** 32;
  };
  const value = (): number =>
    isFloatDType(dtype) ? (next() - 0.5) * 2 ** Math.floor(next() * 6) : Math.floor(next() * 100);
  return Tensor.from(arena, dtype, shape, Array.from({ length: elementCount(shape) }, value));
}

function isSame(a: Tensor, b: Tensor | undefined): boolean {
  const [left, right] = [a.bytes, b?.bytes];
  return left.every((byte, at) => byte === right?.[at]);
}

/** The collectives of a group in either form. */
type Collectives = ProcessGroup | AsyncProcessGroup;

export function setup({ heap, rank, size, world, group: groupOf }: RankContext) {
  const ranks = Array.from({ length: size }, (_, peer) => peer);
  const arena = new Arena(heap, 2 << 20);

  /** The collectives, blocking or as promises, one after another; the bits of all that came, the same on every rank. */
  async function all(group: Collectives, dtype: DType, rows: number): Promise<number> {
    arena.reset();
    const digest = new Digest();
    const whole = [size * rows, 2];
    const make = (shape: readonly number[], seed: number): Tensor => filled(arena, dtype, shape, seed);
    const mine = make([rows, 2], rank);
    const [gathered, again, sideways] = [make(whole, 99), make(whole, 99), make([2, size * rows], 99)];
    await group.allGather(mine, gathered);
    await group.allGatherCoalesced([mine, mine], [gathered, again]);
    await group.allGather(make([2, rows], rank), sideways, { dim: 1 });
    digest.add(gathered, again, sideways);
    for (const op of isReduced(dtype) ? REDUCTIONS : []) {
      const [reduced, chunk] = [make(whole, 99), make([rows, 2], 99)];
      await group.allReduce(make(whole, rank), reduced, { op });
      await group.reduceScatter(make(whole, rank), chunk, { op });
      await group.allGather(chunk, gathered);
      if (!isSame(gathered, reduced)) throw new Error("reduceScatter and allReduce bring different bits");
      digest.add(reduced);
    }
    const sent = ranks.map((peer) => make([rows + rank, 2], 10 * rank + peer));
    const received = ranks.map((peer) => make([rows + peer, 2], 99));
    await group.allToAll(sent, received);
    for (const peer of ranks) {
      const expected = make([rows + peer, 2], 10 * peer + rank);
      if (!isSame(expected, received[peer])) throw new Error(`allToAll brought other bits from rank ${peer}`);
    }
    const fromRoot = make(whole, rank);
    await group.broadcast(fromRoot, size - 1);
    const left = (rank + size - 1) % size;
    const fromLeft = make(whole, 99);
    await group.sendRecv(make(whole, rank), (rank + 1) % size, fromLeft, left);
    if (!isSame(fromLeft, make(whole, left))) throw new Error("sendRecv brought other bits");
    await group.readPeers([mine], (peers) => {
      for (const tensors of peers) digest.add(...tensors);
    });
    await group.agree("the check", { dtype, rows });
    await group.barrier();
    digest.add(fromRoot);
    return digest.value;
  }

  return {
    /** Every collective over every dtype and extent; the same number on every rank. */
    async collectives(): Promise<number> {
      let hash = 0;
      for (const dtype of DTYPES) {
        for (const extent of EXTENTS) {
          const blocking = await all(world, dtype, extent);
          const promised = await all(world.async, dtype, extent);
          if (blocking !== promised) throw new Error(`${dtype} [${extent}]: promises bring other bits`);
          hash = (Math.imul(hash, 31) + blocking) >>> 0;
        }
      }
      return hash;
    },
    rank: () => rank,
    /** Rank `who` throws while its peers wait for it. */
    throws(who: number): void {
      if (rank === who) throw new TypeError("thrown on purpose");
      world.barrier();
    },
    /** Rank `who` has an error that nobody catches. */
    async throwsLater(who: number): Promise<void> {
      if (rank === who) {
        setTimeout(() => {
          throw new TypeError("thrown in a timer");
        }, 1);
        await new Promise((resolve) => setTimeout(resolve, 20_000));
      }
      world.barrier();
    },
    /** Rank `who` rejects a promise that nobody awaits. */
    async rejects(who: number): Promise<void> {
      if (rank === who) {
        void Promise.reject(new TypeError("nobody listens"));
        await new Promise((resolve) => setTimeout(resolve, 20_000));
      }
      world.barrier();
    },
    /** Rank `who` ends its worker. */
    async ends(who: number): Promise<void> {
      if (rank === who) {
        const process = Reflect.get(globalThis, "process") as { exit?: (code: number) => void } | undefined;
        if (process?.exit === undefined) (globalThis as unknown as { close(): void }).close();
        else process.exit(3);
        await new Promise((resolve) => setTimeout(resolve, 20_000));
      }
      world.barrier();
    },
    /** Rank `who` does not come. */
    isMissing(who: number): void {
      if (rank !== who) world.barrier({ deadlineMs: 300 });
    },
    /** Ranks call different collectives. */
    differs(): void {
      if (rank === 0) world.barrier();
      else world.broadcast(Tensor.zeros(heap, "f32", [2]), 0);
    },
    barrier: (): void => world.barrier(),
    sleeps: (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    /** The sum over a group of a tensor that every rank can read. */
    sumOver(name: string, numbers: TensorDescriptor): number[] {
      const input = Tensor.fromDescriptor(numbers, heap);
      const sum = Tensor.empty(heap, input.dtype, input.shape);
      groupOf(name).allReduce(input, sum);
      return [...sum.toNumbers()];
    },
    /** Blocks on a word that nobody changes. */
    waitsForEver(): void {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    },
  };
}
