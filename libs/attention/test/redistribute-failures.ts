// Moves that fail, on one rank.
import { DcpAttention, RedistributeUnsettled } from "@lockstep/attention";
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import { LockstepError, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { MoveCase } from "./redistribute-cases.ts";
import type { ContextDriver } from "./redistribute-context.ts";

/** The same group with another barrier. */
function withBarrier(group: ProcessGroup, act: (barrier: () => Promise<void>) => Promise<void>): ProcessGroup {
  const dressed = <T extends object>(inner: T, others: Readonly<Record<PropertyKey, unknown>>): T =>
    new Proxy(inner, {
      get(target, name) {
        if (name in others) return others[name];
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  const barrier = (...args: Parameters<ProcessGroup["async"]["barrier"]>): Promise<void> =>
    act(() => group.async.barrier(...args));
  return dressed(group, { async: dressed(group.async, { barrier }) });
}

function expectTag(found: string, expected: readonly string[]): void {
  if (!expected.includes(found)) throw new Error(`expected one of ${expected.join(", ")}, but found ${found}`);
}

/** What a program of these tests has for moves that fail. */
export function failingMoves(context: RankContext, { optionsOf, append, fill, goOn, layoutOf }: ContextDriver) {
  const { heap } = context;
  return {
    /**
     * A move that fails, in a way that `trouble` says, after which the old context goes on.
     * @returns the error of this rank, and whether the old context gives the bits that it would have given
     */
    async fail(
      { shape, deals, seed }: MoveCase,
      trouble:
        | "in a step"
        | "signal"
        | "exhausted"
        | "too small"
        | "other heads"
        | "late"
        | "no blocks"
        | "hangs"
        | "is killed",
      culprit: number,
      /** Where the culprit says, by a 1, that it is in the middle of a round. */
      reached?: TensorDescriptor,
    ): Promise<{ error: string; ranks: readonly number[]; goesOn: boolean; leaks: number }> {
      const [first, next] = deals;
      const [old, target] = [layoutOf(0), layoutOf(1)];
      if (first === undefined || next === undefined) throw new Error("two deals are needed");
      const attention = old === undefined ? undefined : DcpAttention.open(optionsOf(old, shape, first));
      if (attention !== undefined && old !== undefined) await fill(attention, old, shape, seed);
      const isCulprit = context.rank === culprit;
      const used = heap.usedBytes;
      const to = target === undefined ? undefined : optionsOf(target, shape, next);
      if (trouble === "in a step" && isCulprit) attention?.beginStep([]);
      const looks = { count: 0 };
      const signal = {
        get aborted(): boolean {
          return trouble === "signal" && isCulprit && ++looks.count > 3;
        },
        reason: "enough",
        addEventListener: () => {},
        removeEventListener: () => {},
      };
      const hog = trouble === "exhausted" && isCulprit ? heap.allocate(heap.freeBytes - (256 << 10)) : undefined;
      let error = "none";
      let ranks: readonly number[] = [];
      try {
        if (trouble === "late" && isCulprit) await new Promise((resolve) => setTimeout(resolve, 1500));
        if ((trouble === "hangs" || trouble === "is killed") && isCulprit) {
          // In the middle of a round: the peers are on their way.
          Object.defineProperty(signal, "aborted", {
            get: () => {
              if (++looks.count <= 3) return false;
              if (reached !== undefined) Atomics.store(Tensor.fromDescriptor(reached, heap).i32, 0, 1);
              for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
            },
          });
        }
        const group = context.group("union 0");
        const { attention: opened } = await DcpAttention.redistribute({
          group,
          signal,
          workspaceBytes: trouble === "too small" ? 600 : trouble === "exhausted" ? 1 << 20 : 4000,
          ...(trouble === "late" || trouble === "hangs" ? { deadlineMs: 700 } : {}),
          ...(attention === undefined ? {} : { from: attention }),
          ...(to === undefined ? {} : { to: trouble === "other heads" ? { ...to, kvHeads: 4 } : to }),
        });
        opened?.close();
      } catch (thrown) {
        error = thrown instanceof LockstepError ? thrown._tag : String(thrown);
        if (thrown instanceof LockstepError && "ranks" in thrown) ranks = thrown.ranks as number[];
      }
      if (hog !== undefined) heap.release(hog);
      if (trouble === "in a step" && isCulprit) attention?.endStep();
      const leaks = heap.usedBytes - used;
      const isOldBroken = old?.all.ranks.includes(culprit) === true && ["hangs", "is killed"].includes(trouble);
      if (attention === undefined || old === undefined || isOldBroken) {
        // A layout whose rank is gone has lost that rank's rows: what it does is a typed error, not a hang.
        let after = "none";
        if (attention !== undefined && old !== undefined && trouble === "is killed") {
          try {
            await append(attention, old, shape, 0, [1, 2]);
          } catch (thrown) {
            after = thrown instanceof LockstepError ? thrown._tag : String(thrown);
          }
          expectTag(after, ["GroupAborted", "RankCrashed"]);
        }
        attention?.close();
        return { error, ranks, goesOn: true, leaks };
      }
      const goesOnWith = await goOn(attention, old, shape);
      attention.close();
      const fresh = DcpAttention.open(optionsOf(old, shape, first));
      await fill(fresh, old, shape, seed);
      const expected = await goOn(fresh, old, shape);
      fresh.close();
      return { error, ranks, goesOn: JSON.stringify(goesOnWith) === JSON.stringify(expected), leaks };
    },

    /**
     * A move whose last barrier fails, as rank 3 is killed in it. Ranks of `left` have left it before.
     * @returns this rank's error, and whether what it keeps goes on with the bits of a context that was always there
     */
    async unsettled(
      { shape, deals, seed }: MoveCase,
      left: readonly number[],
      keep: "old" | "new",
      reached: TensorDescriptor,
    ): Promise<{ error: string; held: string; goesOn: boolean; leaks: number }> {
      const [first, next] = deals;
      const [old, target] = [layoutOf(0), layoutOf(1)];
      if (first === undefined || next === undefined) throw new Error("two deals are needed");
      // What a backend takes for itself in steps like these is no leak.
      for (const [groups, deal] of [[old, first] as const, [target, next] as const]) {
        if (groups === undefined) continue;
        const warm = DcpAttention.open(optionsOf(groups, shape, deal));
        await fill(warm, groups, shape, seed);
        await goOn(warm, groups, shape);
        warm.close();
      }
      const used = heap.usedBytes;
      const from = old === undefined ? undefined : DcpAttention.open(optionsOf(old, shape, first));
      if (from !== undefined && old !== undefined) await fill(from, old, shape, seed);
      const group = withBarrier(context.group("union 0"), (barrier) => {
        if (context.rank === 3) {
          Atomics.store(Tensor.fromDescriptor(reached, heap).i32, 0, 1);
          for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
        }
        return left.includes(context.rank) ? Promise.resolve() : barrier();
      });
      const to = target === undefined ? undefined : optionsOf(target, shape, next);
      const options = { group, ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
      let kept: DcpAttention | undefined;
      let error = "none";
      let held = "none";
      try {
        kept = (await DcpAttention.redistribute(options)).attention;
      } catch (thrown) {
        if (!(thrown instanceof RedistributeUnsettled)) throw thrown;
        error = thrown._tag;
        try {
          from?.beginStep([]);
        } catch (early) {
          held = early instanceof LockstepError ? early._tag : String(early);
        }
        kept = DcpAttention.settle(thrown, keep);
      }
      const [groups, deal] = keep === "old" ? [old, first] : [target, next];
      let goesOn = kept === undefined;
      if (kept !== undefined && groups !== undefined) {
        const found = await goOn(kept, groups, shape);
        kept.close();
        const fresh = DcpAttention.open(optionsOf(groups, shape, deal));
        await fill(fresh, groups, shape, seed);
        goesOn = JSON.stringify(found) === JSON.stringify(await goOn(fresh, groups, shape));
        fresh.close();
      }
      return { error, held, goesOn, leaks: heap.usedBytes - used };
    },
  };
}
