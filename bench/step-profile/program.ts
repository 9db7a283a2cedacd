// The rank's side of the step profile: what a generator's rank runs, with a clock around every part of its steps.
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import type { RankOptions } from "../../libs/language-model/src/generation/rank-options.ts";
import { setup as setUpRank } from "../../libs/language-model/src/generation/rank-program.ts";

/** Microseconds of a part of a step. */
export interface PartTimes {
  /** How often it ran. */
  readonly calls: number;
  /** Of all calls together. */
  readonly sum: number;
  /** Of the call in the middle. */
  readonly median: number;
}

/** What a rank did since the profile before. */
export interface StepProfile {
  readonly parts: Readonly<Record<string, PartTimes>>;
  /** Collectives, and how many microseconds it waited for peers in them, beyond a first short spin. */
  readonly collectives: number;
  readonly waited: number;
}

/** Samples by the part's name. */
class Parts {
  readonly #samples = new Map<string, number[]>();

  add(part: string, microseconds: number): void {
    const samples = this.#samples.get(part);
    if (samples === undefined) this.#samples.set(part, [microseconds]);
    else samples.push(microseconds);
  }

  /** Times a call. */
  timed<T>(part: string, call: () => T): T {
    const started = performance.now();
    const result = call();
    this.add(part, 1000 * (performance.now() - started));
    return result;
  }

  /** All there are; forgets them. */
  take(): Record<string, PartTimes> {
    const times = [...this.#samples].map(([part, samples]) => {
      const sorted = samples.toSorted((a, b) => a - b);
      const sum = samples.reduce((total, sample) => total + sample, 0);
      return [part, { calls: samples.length, sum, median: sorted[sorted.length >> 1] ?? 0 }] as const;
    });
    this.#samples.clear();
    return Object.fromEntries(times);
  }
}

/** A group whose collectives of a step are timed. */
function timedGroup(group: ProcessGroup, parts: Parts): ProcessGroup {
  const timed: Partial<ProcessGroup> = {
    allReduce: (...args) => parts.timed("all-reduce", () => group.allReduce(...args)),
    allGather: (...args) => parts.timed("all-gather of the choice", () => group.allGather(...args)),
  };
  return new Proxy(group, {
    get(target, key) {
      const own: unknown = Reflect.get(timed, key);
      if (own !== undefined) return own;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: RankOptions) {
  const parts = new Parts();
  const rank = await setUpRank(context, options, {
    inGroup: (group) => timedGroup(group, parts),
    runProgram: (program) => {
      for (const [index, name] of program.operations.entries()) {
        const isProduct = name.startsWith("linear") || name === "quantiseInputs";
        parts.timed(isProduct ? "linear layers" : "other layers", () => program.runOne(index));
      }
    },
    inAttention: (step) => ({
      begin: (items) => parts.timed("begin and end of a step", () => step.begin(items)),
      forward: (layer, query, key, value, out) => {
        const started = performance.now();
        const done = step.forward(layer, query, key, value, out);
        const finish = (): undefined => {
          parts.add("attention", 1000 * (performance.now() - started));
        };
        return done === undefined ? finish() : done.then(finish);
      },
      end: () => parts.timed("begin and end of a step", () => step.end()),
      cancel: () => step.cancel(),
    }),
  });
  const groups = new Set([context.world, context.group("dcp")]);
  const counted = () => {
    let [collectives, waited] = [0, 0];
    for (const { counters } of groups) {
      collectives += counters.ops;
      waited += 1000 * counters.waitMs;
    }
    return { collectives, waited };
  };
  let before = counted();
  let inDcp = rank.metrics().attention;

  return {
    ...rank,

    /** What this rank did since this was called last. */
    profile(): StepProfile {
      const [now, attention] = [counted(), rank.metrics().attention];
      const taken = parts.take();
      const whole = taken.attention ?? { calls: 0, sum: 0, median: 0 };
      const gather = 1000 * (attention.gatherMs - inDcp.gatherMs);
      const combine = 1000 * (attention.combineMs - inDcp.combineMs);
      const calls = whole.calls;
      const rest = { calls, sum: whole.sum - gather - combine, median: Number.NaN };
      const profile = {
        parts: {
          ...taken,
          attention: combine === 0 ? { ...whole, sum: whole.sum - gather } : rest,
          ...(combine === 0 ? {} : { "gather of queries": { calls, sum: gather, median: Number.NaN } }),
          ...(combine === 0 ? {} : { "combine of partial results": { calls, sum: combine, median: Number.NaN } }),
        },
        collectives: now.collectives - before.collectives,
        waited: now.waited - before.waited,
      };
      [before, inDcp] = [now, attention];
      return profile;
    },
  };
}
