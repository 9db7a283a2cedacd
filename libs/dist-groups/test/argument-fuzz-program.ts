import { ArgumentError, LockstepError, SharedHeap, Tensor, UseAfterFree } from "@lockstep/tensor";
import * as fc from "fast-check";
import type { AsyncProcessGroup, RankContext } from "../src/index.ts";
import { JUNK } from "./junk.ts";

type Method = keyof AsyncProcessGroup;
type Kind = "tensor" | "tensors" | "root" | "function" | "text" | "fields" | "options";

const OPTIONS = { deadlineMs: 30_000 };

/** What each collective takes, on rank 0 of 2. */
const KINDS: Readonly<Record<Method, readonly Kind[]>> = {
  allGather: ["tensor", "tensor", "options"],
  allGatherCoalesced: ["tensors", "tensors", "options"],
  reduceScatter: ["tensor", "tensor", "options"],
  allReduce: ["tensor", "tensor", "options"],
  allToAll: ["tensors", "tensors", "options"],
  broadcast: ["tensor", "root", "options"],
  sendRecv: ["tensor", "root", "tensor", "root", "options"],
  barrier: ["options"],
  readPeers: ["tensors", "function", "options"],
  agree: ["text", "fields", "options"],
};

/** Arguments that are right together. */
function validArguments(heap: SharedHeap): Readonly<Record<Method, readonly unknown[]>> {
  const f32 = (...shape: number[]): Tensor => Tensor.zeros(heap, "f32", shape).fill(7);
  return {
    allGather: [f32(2), f32(4), OPTIONS],
    allGatherCoalesced: [[f32(2)], [f32(4)], OPTIONS],
    reduceScatter: [f32(4), f32(2), OPTIONS],
    allReduce: [f32(4), f32(4), OPTIONS],
    allToAll: [[f32(4), f32(4)], [f32(4), f32(4)], OPTIONS],
    broadcast: [f32(4), 0, OPTIONS],
    sendRecv: [f32(4), 1, f32(4), 1, OPTIONS],
    barrier: [OPTIONS],
    readPeers: [[f32(4)], () => 1, OPTIONS],
    agree: ["opening", { a: 1 }, OPTIONS],
  };
}

/** Tensors, and what looks like them, that are right nowhere. */
function wrongTensors(heap: SharedHeap): Readonly<Record<string, unknown>> {
  const freed = Tensor.zeros(heap, "f32", [4]);
  const view = freed.slice(0, 0, 2);
  freed.free();
  const foreign = Tensor.zeros(SharedHeap.create(4096), "f32", [4]);
  return {
    "a freed tensor": freed,
    "a view of a freed tensor": view,
    "a tensor of another memory": foreign,
    "a tensor of too many dimensions": Tensor.zeros(heap, "f32", [1, 1, 1, 1, 1, 1, 1, 1, 4]),
    "an object that looks like a tensor": { dtype: "f32", shape: [4], strides: [1], byteOffset: 128, heap, size: 4 },
    "freed tensors": [freed, freed],
    "tensors of another memory": [foreign, foreign],
  };
}

const NO_OBJECTS = ["null", "true", "a text", "NaN", "-1", "0.5", "a bigint", "a symbol", "a function"];
const CONVERTED = "an object whose conversions throw";

/** Options with one bad value: the names of what is bad, and who takes the option. */
const BAD_OPTIONS: Readonly<Record<string, { readonly junk: readonly string[]; readonly of: readonly Method[] }>> = {
  deadlineMs: {
    junk: ["NaN", "Infinity", "-1", "-1e9", "2 ** 31", "2 ** 53", "null", ...NO_OBJECTS, CONVERTED].filter(
      (name) => name !== "0.5",
    ),
    of: Object.keys(KINDS) as Method[],
  },
  dim: {
    junk: [...NO_OBJECTS, "Infinity", "2 ** 31", "-1e9", CONVERTED].filter((name) => name !== "null" && name !== "-1"),
    of: ["allGather", "allGatherCoalesced", "reduceScatter"],
  },
  op: {
    junk: [...NO_OBJECTS, CONVERTED, "a sparse list"].filter((name) => name !== "null"),
    of: ["allReduce", "reduceScatter"],
  },
  deterministic: {
    junk: [...NO_OBJECTS, CONVERTED, "a sparse list"].filter((name) => name !== "null"),
    of: ["allReduce", "reduceScatter"],
  },
  bytesRead: {
    junk: [...NO_OBJECTS, "Infinity"].filter((name) => name !== "null" && name !== "0.5"),
    of: ["readPeers"],
  },
};

/** Names of the junk that an argument of a kind must refuse. */
function badNames(kind: Kind, tensors: readonly string[]): readonly string[] {
  const junk = Object.keys(JUNK);
  if (kind === "options") return NO_OBJECTS;
  if (kind === "function") return [...junk, ...tensors].filter((name) => name !== "a function");
  if (kind === "text") return [...junk, ...tensors].filter((name) => name !== "a text" && name !== "a long text");
  // What has fields of its own, or none, is an object of options.
  if (kind === "fields") return junk.filter((name) => name !== "a date" && name !== "an object without a prototype");
  return [...junk, ...tensors];
}

/** A call with one bad argument, or one bad option. Names only: fast-check prints it. */
interface BadCall {
  readonly method: Method;
  /** The place of an argument, or the name of an option. */
  readonly at: number | string;
  readonly junk: string;
}

function badCalls(tensors: readonly string[]): fc.Arbitrary<BadCall> {
  const methods = fc.constantFrom(...(Object.keys(KINDS) as Method[]));
  const badArgument = methods.chain((method) =>
    fc.nat({ max: KINDS[method].length - 1 }).chain((at) => {
      const names = badNames(KINDS[method][at] ?? "tensor", tensors);
      return fc.constantFrom(...names).map((junk) => ({ method, at, junk }));
    }),
  );
  const badOption = fc
    .constantFrom(...Object.entries(BAD_OPTIONS))
    .chain(([at, { junk, of }]) =>
      fc.record({ method: fc.constantFrom(...of), at: fc.constant(at), junk: fc.constantFrom(...junk) }),
    );
  return fc.oneof(badArgument, badOption);
}

/** Rank 0 of 2 makes bad calls. */
export function setup({ heap, rank, world }: RankContext) {
  return {
    /** How many calls were refused with a typed error, without a byte written; the group must then work. */
    async fuzz(seed: number, runs: number): Promise<number> {
      let refused = 0;
      if (rank === 0) {
        const valid = validArguments(heap);
        const tensors = wrongTensors(heap);
        const bad: Readonly<Record<string, unknown>> = { ...JUNK, ...tensors };
        const memory = new Uint8Array(heap.buffer, heap.start, heap.totalBytes);
        const before = memory.slice();
        const calls = badCalls(Object.keys(tensors));
        const property = fc.asyncProperty(calls, fc.boolean(), async ({ method, at, junk }, isAsync) => {
          const target = isAsync ? world.async : world;
          const isPlace = typeof at === "number";
          const args = valid[method].with(isPlace ? at : -1, isPlace ? bad[junk] : { ...OPTIONS, [at]: bad[junk] });
          const thrown: unknown = await (async () => Reflect.apply(Reflect.get(target, method), target, args))().then(
            () => "it was taken",
            (error: unknown) => error,
          );
          if (thrown instanceof ArgumentError || thrown instanceof UseAfterFree) refused++;
          else throw new Error(`${thrown}`, { cause: thrown });
        });
        await fc.assert(property, { seed, numRuns: runs, endOnFailure: true });
        if (!before.every((byte, at) => byte === memory[at])) throw new Error("something was written");
      }
      const ones = Tensor.empty(heap, "i32", [5]).fill(1);
      world.allReduce(ones, ones);
      if (!ones.i32.every((value) => value === 2)) throw new Error("the group is out of step");
      return refused;
    },
    /** Tensors that were right in a call before and have been freed since. */
    freedAfterUse(): readonly string[] {
      const make = (elements: number): Tensor => Tensor.zeros(heap, "f32", [elements]);
      const outcomes: string[] = [];
      const tensors = { one: make(2), all: make(4), reduced: make(4) };
      const uses: readonly (() => void)[] = [
        () => world.allGather(tensors.one, tensors.all),
        () => world.allReduce(tensors.reduced, tensors.reduced),
        () => world.reduceScatter(tensors.all, tensors.one),
        () => world.allGatherCoalesced([tensors.one], [tensors.all]),
        () => world.allToAll([tensors.one, tensors.one], [tensors.all.slice(0, 0, 2), tensors.all.slice(0, 2, 4)]),
        () => world.broadcast(tensors.one, 0),
        () => world.sendRecv(tensors.one, 1 - rank, tensors.all.slice(0, 0, 2), 1 - rank),
        () => world.readPeers([tensors.one], () => undefined),
      ];
      for (const use of uses) use();
      for (const tensor of Object.values(tensors)) tensor.free();
      for (const use of uses) {
        try {
          use();
          outcomes.push("taken");
        } catch (error) {
          outcomes.push(error instanceof LockstepError ? error._tag : String(error));
        }
      }
      world.barrier();
      return outcomes;
    },
  };
}
