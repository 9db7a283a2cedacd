// The rank's side of the tests of contexts that move between layouts.
import { DcpAttention, type RedistributeMetrics } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type MoveCase, type MoveReport, QUERY_HEADS } from "./redistribute-cases.ts";
import { contextDriver } from "./redistribute-context.ts";
import { failingMoves } from "./redistribute-failures.ts";
import type { TestBackend } from "./test-backend.ts";

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap } = context;
  const driver = await contextDriver(context, options.backend);
  const { optionsOf, append, textsOf, fill, goOn, has, layoutOf } = driver;
  return {
    ...failingMoves(context, driver),

    async move({ shape, deals, unions, workspaceBytes, seed, isInvariant }: MoveCase): Promise<MoveReport> {
      let attention: DcpAttention | undefined;
      const [first] = deals;
      const start = layoutOf(0, first?.pcp);
      if (start !== undefined && first !== undefined) {
        attention = DcpAttention.open(optionsOf(start, shape, first, isInvariant));
        await fill(attention, start, shape, seed, first.pcp !== undefined);
      }
      const metrics: RedistributeMetrics[] = [];
      const held: [number, number][] = [];
      const blocks: number[] = [];
      for (const [at, name] of unions.entries()) {
        const group = has(name);
        const deal = deals[at + 1];
        if (group === undefined || deal === undefined) continue;
        const target = layoutOf(at + 1, deal.pcp);
        const heldBefore = attention?.metrics.tokensHeld ?? 0;
        const used = heap.usedBytes;
        const moved = await DcpAttention.redistribute({
          group,
          workspaceBytes,
          ...(attention === undefined ? {} : { from: attention }),
          ...(target === undefined ? {} : { to: optionsOf(target, shape, deal, isInvariant) }),
        });
        if (moved.attention === undefined && heap.usedBytes > used) throw new Error("something stayed allocated");
        attention = moved.attention;
        metrics.push(moved.metrics);
        held.push([heldBefore, attention?.metrics.tokensHeld ?? 0]);
        if (attention !== undefined) blocks.push(attention.blocks.total - attention.blocks.free);
      }
      const deal = deals.at(-1);
      const last = layoutOf(deals.length - 1, deal?.pcp);
      const heads = headRange(QUERY_HEADS, last?.query.rank ?? 0, last?.query.size ?? 1);
      const report = { metrics, held, blocks, moved: [], expected: [], known: [], heads };
      if (attention === undefined || last === undefined || deal === undefined) return report;
      const { known, second } = textsOf(seed);
      const found = [known, second].map((ids) => attention?.knownPrefix([...ids, 0]) ?? -1);
      // What is known is what it says: a text that begins with it goes on as if all had been computed here.
      const begun = attention.createSequenceFrom([...known, 0]);
      const begunBits = await append(attention, last, shape, begun.sequence, [...known.slice(begun.cached), 0]);
      attention.freeSequence(begun.sequence);
      const moved = await goOn(attention, last, shape);
      attention.close();
      const fresh = DcpAttention.open(optionsOf(last, shape, deal, isInvariant));
      await fill(fresh, last, shape, seed);
      const again = fresh.createSequence();
      const againBits: number[] = [];
      for (let from = 0; from <= known.length; from += 13) {
        againBits.splice(
          0,
          againBits.length,
          ...(await append(fresh, last, shape, again, [...known, 0].slice(from, from + 13))),
        );
      }
      fresh.freeSequence(again);
      const expected = await goOn(fresh, last, shape);
      fresh.close();
      moved.push({ length: known.length, bits: begunBits });
      expected.push({ length: known.length, bits: againBits });
      return { ...report, moved, expected, known: found };
    },
  };
}
