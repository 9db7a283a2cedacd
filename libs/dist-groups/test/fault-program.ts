import process from "node:process";
import { type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import {
  CollectiveMismatch,
  type CollectiveSide,
  CollectiveTimeout,
  GroupAborted,
  type ProcessGroup,
  type RankContext,
} from "../src/index.ts";

/** How a rank came out of its last call. */
export interface Report {
  /** Name of the error, or "none". */
  readonly error: string;
  readonly message: string;
  readonly elapsedMs: number;
  readonly op: string | undefined;
  readonly sequence: number | undefined;
  readonly missing: readonly number[] | undefined;
  readonly failedRanks: readonly number[] | undefined;
  readonly sides: readonly CollectiveSide[] | undefined;
  readonly cause: string | undefined;
}

function reportOf(thrown: unknown, elapsedMs: number): Report {
  const error = thrown instanceof Error ? thrown : undefined;
  return {
    error: error?.name ?? "none",
    message: error?.message ?? "",
    elapsedMs,
    op: error instanceof CollectiveTimeout || error instanceof GroupAborted ? error.op : undefined,
    sequence: error instanceof CollectiveTimeout || error instanceof CollectiveMismatch ? error.sequence : undefined,
    missing: error instanceof CollectiveTimeout ? error.missing : undefined,
    failedRanks: error instanceof GroupAborted ? error.failedRanks : undefined,
    sides: error instanceof CollectiveMismatch ? error.sides : undefined,
    cause: error?.cause instanceof Error ? error.cause.name : undefined,
  };
}

/** What the ranks of a mismatch do. */
const MISMATCHES: Readonly<Record<string, (group: ProcessGroup, heap: SharedHeap, odd: boolean) => void>> = {
  op: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", [6]);
    if (odd) group.barrier();
    else group.broadcast(tensor, 0);
  },
  shape: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", odd ? [2, 3] : [3, 2]);
    group.allReduce(tensor, tensor);
  },
  dimensions: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", odd ? [6] : [6, 1]);
    group.allReduce(tensor, tensor);
  },
  dtype: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, odd ? "f16" : "bf16", [6]);
    group.allReduce(tensor, tensor);
  },
  reduction: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", [6]);
    group.allReduce(tensor, tensor, { op: odd ? "max" : "sum" });
  },
  deterministic: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", [6]);
    group.allReduce(tensor, tensor, { deterministic: odd ? "world-invariant" : "rank-order" });
  },
  root: (group, heap, odd) => {
    group.broadcast(Tensor.zeros(heap, "f32", [6]), odd ? 1 : 0);
  },
  dim: (group, heap, odd) => {
    const square = group.size;
    const input = Tensor.zeros(heap, "f32", odd ? [square, 1] : [1, square]);
    group.allGather(input, Tensor.zeros(heap, "f32", [square, square]), { dim: odd ? 1 : 0 });
  },
  size: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", [odd ? 100_000 : 100_001]);
    group.allReduce(tensor, tensor);
  },
  pair: (group, heap, odd) => {
    const tensors = (extent: number): Tensor[] => group.ranks.map(() => Tensor.zeros(heap, "f32", [extent]));
    const inputs = tensors(4);
    if (odd) inputs[0] = Tensor.zeros(heap, "f32", [5]);
    group.allToAll(inputs, tensors(4));
  },
  coalesced: (group, heap, odd) => {
    const lse = Tensor.zeros(heap, "f32", [1]);
    const out = Tensor.zeros(heap, "f32", [1, odd ? 4 : 5]);
    const outputs = [Tensor.zeros(heap, "f32", [group.size]), Tensor.zeros(heap, "f32", [group.size, odd ? 4 : 5])];
    group.allGatherCoalesced([lse, out], outputs);
  },
  published: (group, heap, odd) => {
    const tensor = Tensor.zeros(heap, "f32", [1]);
    group.readPeers(odd ? [tensor] : [tensor, tensor], () => undefined);
  },
};

function looked(): never {
  throw new Error("somebody looked");
}

/** Values that can hardly be printed or copied. */
const STRANGE: Readonly<Record<string, () => unknown>> = {
  "object without a prototype": () => Object.create(null),
  symbol: () => Symbol("strange"),
  function: () => () => 1,
  "proxy that throws": () => new Proxy({}, { get: looked, ownKeys: looked, getPrototypeOf: looked }),
  "proxy that was revoked": () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  "getter that throws": () => Object.defineProperty({}, "x", { get: looked, enumerable: true }),
  "error whose getters throw": () => Object.defineProperty(new Error("m"), "message", { get: looked }),
  cyclic: () => {
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    return cyclic;
  },
  huge: () => new RangeError("x".repeat(5_000_000)),
};

export const STRANGE_KINDS = Object.keys(STRANGE);

export const MISMATCH_KINDS = Object.keys(MISMATCHES);

/** Computes until a group is aborted, or for a time. */
function busyUntilAborted(group: ProcessGroup, longestMs: number): void {
  const end = performance.now() + longestMs;
  while (performance.now() < end && !group.isAborted);
}

export function setup(context: RankContext) {
  const { heap, rank, world } = context;
  let last: Report | undefined;
  const kept = new Map<string, ProcessGroup>();

  async function attempt(work: () => unknown): Promise<unknown> {
    last = undefined;
    const start = performance.now();
    try {
      const value = await work();
      last = reportOf(undefined, performance.now() - start);
      return value;
    } catch (error) {
      last = reportOf(error, performance.now() - start);
      throw error;
    }
  }

  function mixed(group: ProcessGroup, rounds: number): void {
    const input = Tensor.empty(heap, "i32", [10]);
    const output = Tensor.empty(heap, "i32", [10]);
    const large = Tensor.empty(heap, "f32", [20_000]);
    const largeSum = Tensor.empty(heap, "f32", [20_000]);
    for (let round = 0; round < rounds; round++) {
      input.fill(group.rank + round);
      group.allReduce(input, output);
      const expected = group.size * round + (group.size * (group.size - 1)) / 2;
      if (!output.i32.every((value) => value === expected)) throw new Error(`sum is ${output.i32[0]}, not ${expected}`);
      if (round % 10 === 0) {
        large.fill(group.rank);
        group.allReduce(large, largeSum, { op: "max" });
        if (!largeSum.f32.every((value) => value === group.size - 1)) throw new Error(`max is ${largeSum.f32[0]}`);
      }
      group.barrier();
    }
    for (const tensor of [input, output, large, largeSum]) tensor.free();
  }

  return {
    report: () => last,
    name: () => `rank ${rank}`,
    /** Correct collectives, checked. */
    work: (group: string, rounds: number) => attempt(() => mixed(context.group(group), rounds)),
    /** Correct collectives on a group, until something ends them. */
    workForever: (group: string) =>
      attempt(() => {
        for (;;) mixed(context.group(group), 10);
      }),
    throwBefore: (who: number) =>
      attempt(() => {
        if (rank === who) throw new TypeError("boom before");
        world.barrier();
      }),
    /** Throws after publishing, in the middle of a collective. */
    throwDuring: (who: number) =>
      attempt(() => {
        const tensor = Tensor.zeros(heap, "f32", [4]);
        world.readPeers([tensor], () => {
          if (rank === who) throw new TypeError("boom during");
        });
        world.barrier();
      }),
    throwAfter: (who: number) =>
      attempt(() => {
        world.barrier();
        if (rank === who) throw new TypeError("boom after");
        world.barrier();
      }),
    /** Every rank refuses a bad argument in the same way. */
    refuse: () => attempt(() => context.group("no such group")),
    refuseOne: (who: number) =>
      attempt(() => {
        if (rank === who) world.broadcast(Tensor.zeros(heap, "f32", [1]), 99);
        else world.barrier();
      }),
    reject: (who: number) =>
      attempt(async () => {
        if (rank === who) {
          void Promise.reject(new Error("nobody listens"));
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
        world.barrier();
      }),
    throwInTimer: (who: number) =>
      attempt(async () => {
        if (rank === who) {
          setTimeout(() => {
            throw new Error("thrown in a timer");
          }, 5);
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
        world.barrier();
      }),
    exit: (who: number) =>
      attempt(() => {
        if (rank === who) process.exit(3);
        world.barrier();
      }),
    /** Some ranks come too late: when the group has been aborted, or after a time. */
    late: (who: readonly number[], longestMs: number, deadlineMs: number, name: string) =>
      attempt(() => {
        const group = context.group(name);
        if (who.includes(rank)) busyUntilAborted(group, longestMs);
        group.barrier({ deadlineMs });
      }),
    mismatch: (kind: string, odd: readonly number[], goodBefore: number, name: string) =>
      attempt(() => {
        const group = context.group(name);
        for (let good = 0; good < goodBefore; good++) group.barrier();
        MISMATCHES[kind]?.(group, heap, odd.includes(rank));
      }),
    reenter: () =>
      attempt(() => {
        const tensor = Tensor.zeros(heap, "f32", [1]);
        world.readPeers([tensor], () => world.barrier());
      }),
    /** Two groups, entered in an order that depends on the rank. */
    crossed: (groups: readonly [string, string], deadlineMs: number) =>
      attempt(() => {
        for (const name of rank === 0 ? groups : [...groups].reverse()) context.group(name).barrier({ deadlineMs });
      }),
    interleaved: (groups: readonly string[], rounds: number) =>
      attempt(() => {
        for (let round = 0; round < rounds; round++) for (const name of groups) mixed(context.group(name), 1);
      }),
    /** Keeps the group that has this name now. */
    keep: (name: string) => {
      kept.set(name, context.group(name));
    },
    useKept: (name: string) => attempt(() => kept.get(name)?.barrier()),
    onCloseWrite: (address: number, delayMs: number) => {
      const flags = new Int32Array(heap.buffer, address, context.size);
      context.onClose(async () => {
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        Atomics.add(flags, rank, 1);
      });
      context.onClose(() => {
        Atomics.add(flags, rank, 10);
      });
    },
    onCloseThrow: (who: number) => {
      context.onClose(() => {
        if (rank === who) throw new Error("the device does not let go");
      });
    },
    /** Blocks on a word that nobody changes. */
    waitForEver: (arrived: TensorDescriptor) => {
      Atomics.add(Tensor.fromDescriptor(arrived, heap).i32, 0, 1);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    },
    echo: (value: unknown) => value,
    /** One rank throws or returns something strange while its peers wait for it. */
    strange: (how: "throw" | "return", kind: string, who: number) => {
      if (rank !== who) return attempt(() => context.world.barrier());
      // Not by attempt, which looks at what was thrown.
      const value = STRANGE[kind]?.();
      if (how === "throw") throw value;
      return value;
    },
    /** Bits of a sum whose order matters, as a number. */
    digest: (): number => {
      const values = Tensor.empty(heap, "f32", [5000]);
      let word = rank + 1;
      for (let at = 0; at < 5000; at++) {
        word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
        values.f32[at] = (word / 2 ** 32 - 0.5) * 2 ** (word % 20);
      }
      world.allReduce(values, values);
      const bits = new Uint32Array(heap.buffer, values.byteOffset, 5000);
      const digest = bits.reduce((hash, bit) => Math.imul(hash ^ bit, 16777619) >>> 0, 2166136261);
      values.free();
      return digest;
    },
    counters: () => ({ ...world.counters }),
    sleep: (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds)),
    /** One rank computes, until the world is aborted or for a time; the others wait for it. */
    spin: (who: number, longestMs: number) =>
      attempt(() => {
        if (rank === who) busyUntilAborted(world, longestMs);
        else world.barrier();
      }),
  };
}
