// Ops of the corpus that ranks do together, in worlds of as many ranks as a case says.
import type { Combine } from "@lockstep/attention";
import { Tensor } from "@lockstep/tensor";
import { computed } from "./computed.ts";
import type { WorldOp } from "./corpus-world.ts";
import type { CaseResults } from "./judge.ts";
import { nonFiniteOf } from "./kernel-ops.ts";
import type { OpName } from "./ops.ts";
import { decodeStep, prefillStep } from "./step-ops.ts";

/** Gathers on all ranks: each must get the whole query. */
const gatherQuery: WorldOp = async ({ world, arena, input }) => {
  const query = input("query");
  const gathered = Tensor.empty(arena, query.dtype, [world.size, ...query.shape]).fill(Number.NaN);
  await world.call("gather", [{ query: query.descriptor, gathered: gathered.descriptor }]);
  return Array.from({ length: world.size }, (_, rank) => ({ gathered: computed(gathered.select(0, rank)) }));
};

const reduceBy =
  (...combines: readonly Combine[]): WorldOp =>
  async ({ world, arena, parameters, input }) => {
    const [outs, lses] = [input("outs"), input("lses")];
    const base = parameters.choice("base", "e", "2");
    const nonFinite = nonFiniteOf(parameters);
    const results: CaseResults[] = [];
    for (const combine of combines) {
      const out = Tensor.empty(arena, outs.dtype, outs.shape.slice(1)).fill(Number.NaN);
      const lse = Tensor.empty(arena, "f32", lses.shape.slice(1)).fill(Number.NaN);
      const into = { out: out.descriptor, lse: lse.descriptor };
      const from = { outs: outs.descriptor, lses: lses.descriptor };
      await world.call("reduce", [{ ...from, ...into, combine, base, nonFinite }]);
      results.push({ out: computed(out), lse: computed(lse) });
    }
    return results;
  };

/** By name. */
export const WORLD_OPS: Readonly<Partial<Record<OpName, WorldOp>>> = {
  gather_query: gatherQuery,
  reduce_output: reduceBy("ag-rs", "one-shot"),
  a2a_combine: reduceBy("a2a"),
  decode_step: decodeStep,
  prefill_step: prefillStep,
};
