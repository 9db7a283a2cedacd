import { Tensor } from "@lockstep/tensor";
import { type AgreedFields, OptionsDisagree, type RankContext } from "../src/index.ts";

/** What one rank came out with. */
export interface AgreeOutcome {
  readonly error: OptionsDisagree | undefined;
  readonly message: string;
  /** Bytes that the call left allocated. */
  readonly leaked: number;
}

/** Ranks that say what they open. */
export function setup({ heap, rank, world }: RankContext) {
  return {
    /** Rank r agrees to `fields[r]`, or to the first where there are fewer. Then the group must still work. */
    async agree(
      whats: readonly string[],
      fields: readonly AgreedFields[],
      asyncRanks: readonly number[],
    ): Promise<AgreeOutcome> {
      const before = heap.usedBytes;
      const what = whats[rank] ?? whats[0] ?? "";
      const own = fields[rank] ?? fields[0] ?? {};
      let error: OptionsDisagree | undefined;
      try {
        if (asyncRanks.includes(rank)) await world.async.agree(what, own);
        else world.agree(what, own);
      } catch (thrown) {
        if (!(thrown instanceof OptionsDisagree)) throw thrown;
        error = thrown;
      }
      const leaked = heap.usedBytes - before;
      const sum = Tensor.from(heap, "i32", [1], [1]);
      world.allReduce(sum, sum);
      if (sum.i32[0] !== world.size) throw new Error("the group is out of step");
      sum.free();
      // Structured cloning keeps no class: the fields are what is compared.
      return {
        error: error === undefined ? undefined : ({ ...error } as OptionsDisagree),
        message: error?.message ?? "",
        leaked,
      };
    },
    open(what: string, fields: readonly AgreedFields[]): void {
      world.agree(what, fields[rank] ?? {});
    },
    mixed(deadlineMs: number): void {
      if (rank === 0) world.agree("opening", { a: 1 }, { deadlineMs });
      else world.barrier({ deadlineMs });
    },
    alone(deadlineMs: number): void {
      if (rank !== 1) world.agree("opening", { a: 1 }, { deadlineMs });
    },
  };
}
