import { Tensor } from "@lockstep/tensor";
import type { RankContext } from "../src/index.ts";

/** Some cases look at ranks while they wait. */
export const concurrent = true;

/** Asynchronous collectives, and transfers between pairs. */
export function setup(context: RankContext) {
  const { heap, rank, size } = context;
  let turns = 0;
  let outcome: string | undefined;

  const later = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

  function expectValues(what: string, tensor: Tensor, expected: (index: number) => number): void {
    tensor.toNumbers().forEach((value, index) => {
      if (value !== expected(index)) {
        throw new Error(`rank ${rank}, ${what}: element ${index} is ${value}, not ${expected(index)}`);
      }
    });
  }

  /** A ring: everyone sends to the next rank and receives from the one before. */
  async function ring(count: number, strided: boolean, asynchronous: boolean): Promise<void> {
    const make = (): Tensor => {
      const whole = Tensor.zeros(heap, "i32", strided ? [count, 2] : [count]);
      return strided ? whole.select(1, 1) : whole;
    };
    const [send, receive] = [make(), make()];
    send.set(Array.from({ length: count }, (_, index) => 1000 * rank + index));
    const next = (rank + 1) % size;
    const before = (rank + size - 1) % size;
    if (asynchronous) await context.world.async.sendRecv(send, next, receive, before);
    else context.world.sendRecv(send, next, receive, before);
    expectValues("ring", receive, (index) => 1000 * before + index);
  }

  return {
    /** Every collective, in rounds; ranks of which `isAsync` is true use the asynchronous form. */
    async all(count: number, rounds: number, asyncRanks: readonly number[]): Promise<number> {
      const isAsync = asyncRanks.includes(rank);
      const start = heap.usedBytes;
      const part = Tensor.empty(heap, "f32", [count]);
      const whole = Tensor.empty(heap, "f32", [count * size]);
      const mine = Tensor.empty(heap, "f32", [count]);
      const parts = (tensor: Tensor): Tensor[] =>
        Array.from({ length: size }, (_, peer) => tensor.slice(0, peer * count, (peer + 1) * count));
      const exchanged = Tensor.empty(heap, "f32", [count * size]);
      const pairs = (size * (size - 1)) / 2;
      for (let round = 0; round < rounds; round++) {
        part.fill(rank + round);
        whole.fill(-1);
        if (isAsync) await context.world.async.allGather(part, whole);
        else context.world.allGather(part, whole);
        expectValues("all-gather", whole, (index) => Math.floor(index / count) + round);
        exchanged.fill(-1);
        whole.fill(-1);
        mine.fill(10 * rank);
        const [inputs, outputs] = [
          [part, mine],
          [whole, exchanged],
        ];
        if (isAsync) await context.world.async.allGatherCoalesced(inputs, outputs);
        else context.world.allGatherCoalesced(inputs, outputs);
        expectValues("all-gather, first of two", whole, (index) => Math.floor(index / count) + round);
        expectValues("all-gather, second of two", exchanged, (index) => 10 * Math.floor(index / count));
        if (isAsync) await context.world.async.allToAll(parts(whole), parts(exchanged));
        else context.world.allToAll(parts(whole), parts(exchanged));
        expectValues("all-to-all", exchanged, () => rank + round);
        whole.fill(rank);
        if (isAsync) await context.world.async.reduceScatter(whole, mine);
        else context.world.reduceScatter(whole, mine);
        expectValues("reduce-scatter", mine, () => pairs);
        if (isAsync) await context.world.async.allReduce(part, part, { op: "max" });
        else context.world.allReduce(part, part, { op: "max" });
        expectValues("all-reduce", part, () => size - 1 + round);
        part.fill(rank);
        const root = round % size;
        if (isAsync) await context.world.async.broadcast(part, root);
        else context.world.broadcast(part, root);
        expectValues("broadcast", part, () => root);
        const read = (tensors: readonly (readonly Tensor[])[]): number =>
          tensors.reduce((sum, [tensor]) => sum + (tensor?.at(0) ?? Number.NaN), 0);
        const sum = isAsync ? await context.world.async.readPeers([mine], read) : context.world.readPeers([mine], read);
        if (sum !== size * pairs) throw new Error(`rank ${rank}: read ${sum}`);
        if (isAsync) await context.world.async.barrier();
        else context.world.barrier();
      }
      for (const tensor of [part, whole, mine, exchanged]) tensor.free();
      return heap.usedBytes - start;
    },
    async rings(count: number, asyncRanks: readonly number[]): Promise<void> {
      for (let round = 0; round < 10; round++)
        for (const strided of [false, true]) await ring(count, strided, asyncRanks.includes(rank));
    },
    /** One transfer from `from` to `to`, of a dtype; all others do neither. */
    transfer(from: number, to: number, dtype: Tensor["dtype"], count: number): void {
      const values = (index: number): number => (index * 7) % 16;
      const send = Tensor.empty(heap, dtype, [count]).set(Array.from({ length: count }, (_, index) => values(index)));
      const receive = Tensor.zeros(heap, dtype, [count]);
      context.world.sendRecv(rank === from ? send : undefined, to, rank === to ? receive : undefined, from);
      expectValues("transfer", receive, rank === to ? values : () => 0);
    },
    mismatch(kind: "shape" | "dtype" | "unexpected" | "unsent" | "peer"): void {
      const send = rank === 0 ? Tensor.zeros(heap, "f32", [4]) : undefined;
      const receive =
        rank === 1 ? Tensor.zeros(heap, kind === "dtype" ? "i32" : "f32", [kind === "shape" ? 5 : 4]) : undefined;
      context.world.sendRecv(
        kind === "unsent" ? undefined : send,
        1,
        kind === "unexpected" ? undefined : receive,
        kind === "peer" ? size - 1 : 0,
      );
    },
    refuse(kind: "peer" | "overlap"): void {
      const tensor = Tensor.zeros(heap, "f32", [4]);
      if (kind === "peer") context.world.sendRecv(tensor, size, undefined, 0);
      else context.world.sendRecv(tensor.slice(0, 0, 3), rank, tensor.slice(0, 1, 4), rank);
    },
    /** Waits asynchronously for a rank that comes late; returns how often the event loop turned meanwhile. */
    async responsive(lateRank: number, delayMs: number): Promise<number> {
      let timerTurns = 0;
      const timer = setInterval(() => timerTurns++, 5);
      try {
        if (rank === lateRank) await later(delayMs);
        await context.world.async.barrier();
      } finally {
        clearInterval(timer);
      }
      return timerTurns;
    },
    /** Everybody but `missing` waits. Answers to other calls meanwhile. */
    async waitFor(group: string, missing: number, deadlineMs: number): Promise<void> {
      outcome = undefined;
      if (rank === missing) return;
      try {
        await context.group(group).async.barrier({ deadlineMs });
        outcome = "none";
      } catch (error) {
        outcome = error instanceof Error ? error.name : String(error);
        throw error;
      }
    },
    outcome: () => outcome,
    turn: () => ++turns,
    throwWhileTheyWait: async (who: number) => {
      if (rank === who) {
        await later(50);
        throw new Error("gives up");
      }
      await context.world.async.barrier();
    },
    async overlapping(): Promise<string> {
      const first = context.world.async.barrier();
      const second = await context.world.async.barrier().then(
        () => "none",
        (error: Error) => error.name,
      );
      await first;
      return second;
    },
  };
}
