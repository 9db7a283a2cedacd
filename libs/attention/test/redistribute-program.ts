// The rank's side of the tests of contexts that move between layouts.
import {
  DcpAttention,
  type DcpAttentionOptions,
  type RedistributeMetrics,
  RedistributeUnsettled,
} from "@lockstep/attention";
import { headRange, type ProcessGroup, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, LockstepError, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import {
  type Deal,
  LAYERS,
  type MoveCase,
  type MoveReport,
  QUERY_HEADS,
  type RowShape,
  type SequenceReport,
} from "./redistribute-cases.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

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

/** This rank's groups of a deal. */
interface LayoutGroups {
  readonly all: ProcessGroup;
  readonly query: ProcessGroup;
  readonly pcp: ProcessGroup | undefined;
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = backend.isSynchronous ? backend : await openBackend("wasm", { heap });
  context.onClose(() => mergeBackend.close());
  const scratch = new Arena(heap, 2 << 20);
  context.onClose(() => scratch.close());
  // What a backend takes for itself when rows are moved first is no leak.
  const cache = backend.empty("f32", [1, 1, 1, 4]);
  const row = Tensor.zeros(heap, "f32", [1, 1, 4]);
  await backend.gatherKvCache({ cache, slots: [0], rows: row });
  await backend.writeKvCache({ key: row, slotMapping: [0], keyCache: cache });
  cache.free();
  row.free();

  function optionsOf(groups: LayoutGroups, shape: RowShape, deal: Deal, isInvariant = false) {
    const { kvHeads, dims, kvDtype, mla, scales } = shape;
    const kvScales = scales === undefined ? {} : { kvScales: { key: scales, value: scales } };
    const { pcp, ...dealt } = deal;
    return {
      ...dealt,
      ...kvScales,
      ...(pcp === undefined ? {} : { prefillChunk: 16 }),
      ...(groups.pcp === undefined ? {} : { pcpGroup: groups.pcp }),
      ...(isInvariant ? { deterministic: "world-invariant" as const } : {}),
      backend,
      mergeBackend,
      heap,
      dcpGroup: groups.all,
      queryGroup: groups.query,
      layers: LAYERS,
      queryHeads: QUERY_HEADS,
      kvHeads,
      headDim: dims[0],
      valueDim: dims[1],
      kvDtype,
      mla,
      combine: "a2a",
      prefixCache: true,
    } satisfies DcpAttentionOptions;
  }

  /**
   * Appends tokens; returns the bits of the last one's results, unless this rank does not bring it to a prefill. Keys
   * and values follow from token and position.
   */
  async function append(
    attention: DcpAttention,
    { query: { rank, size } }: LayoutGroups,
    shape: RowShape,
    sequence: number,
    ids: number[],
    isPrefill = false,
  ) {
    const { kvHeads, dims, mla } = shape;
    const own = headRange(QUERY_HEADS, rank, size);
    const from = attention.sequenceLength(sequence);
    const items = [{ sequence, tokens: ids.length }];
    const rows = isPrefill ? [...attention.beginPrefill(items).rows] : ids.map((_, row) => row);
    if (!isPrefill) attention.beginStep(items);
    const bits: number[] = [];
    for (let layer = 0; layer < LAYERS; layer++) {
      const numbers = (count: number, dim: number, salt: number): Tensor => {
        const values = rows.flatMap((row) => [
          ...new RandomStream(100_000 * salt + 1000 * (ids[row] ?? 0) + from + row).normals(count * dim),
        ]);
        return Tensor.from(scratch, "f32", [rows.length, count, dim], values);
      };
      const query = numbers(QUERY_HEADS, dims[0], layer).slice(1, own.start, own.end);
      const key = numbers(kvHeads, dims[0], 2 + layer);
      const value = mla ? undefined : numbers(kvHeads, dims[1], 4 + layer);
      const out = Tensor.empty(scratch, "f32", [rows.length, own.end - own.start, dims[1]]).fill(Number.NaN);
      if (isPrefill) await attention.prefill(layer, query, key, value, out);
      else await attention.forward(layer, query, key, value, out);
      if (rows.length === 0) continue;
      const last = out.select(0, rows.length - 1);
      bits.push(...new Int32Array(last.heap.buffer, last.byteOffset, last.size));
    }
    attention.endStep();
    scratch.reset();
    return bits;
  }

  const text = (seed: number, length: number): number[] => {
    const random = new RandomStream(seed);
    return Array.from({ length }, () => random.below(90));
  };

  /** Texts of the sequences of a context, in the order of their ids; and one that is known, and whose sequence is gone. */
  function textsOf(seed: number) {
    const [first, second, known] = [text(seed, 41), text(seed + 1, 23), text(seed + 2, 32)];
    const fork = [...first.slice(0, 37), ...text(seed + 3, 6)];
    return { first, second, fork, cut: first.slice(0, 18), known };
  }

  /** Sequences 0 (first), 2 (second), 3 (fork of the first), 4 (the first cut back). Sequence 1 is gone. */
  async function fill(
    attention: DcpAttention,
    group: LayoutGroups,
    shape: RowShape,
    seed: number,
    isPrefill = false,
  ): Promise<void> {
    const { first, second, fork, cut, known } = textsOf(seed);
    const grow = async (sequence: number, ids: readonly number[]): Promise<void> => {
      while (attention.sequenceLength(sequence) < ids.length) {
        const at = attention.sequenceLength(sequence);
        await append(attention, group, shape, sequence, ids.slice(at, at + 13), isPrefill);
      }
    };
    const a = attention.createSequence();
    await grow(a, first.slice(0, 37));
    const gone = attention.createSequence();
    await grow(gone, known);
    attention.keepPrefix(gone, known);
    attention.freeSequence(gone);
    const b = attention.createSequence();
    const c = attention.forkSequence(a);
    await grow(c, fork);
    await grow(a, first);
    await grow(b, second);
    attention.keepPrefix(b, second);
    attention.truncateSequence(attention.forkSequence(a), cut.length);
  }

  /** What sequences find for tokens that come now. */
  async function goOn(attention: DcpAttention, group: LayoutGroups, shape: RowShape): Promise<SequenceReport[]> {
    const reports: SequenceReport[] = [];
    for (const sequence of [0, 2, 3, 4, attention.createSequence()]) {
      const length = attention.sequenceLength(sequence);
      const bits = await append(attention, group, shape, sequence, [7, 8, 9]);
      reports.push({ length, bits: [...bits, ...(await append(attention, group, shape, sequence, [sequence]))] });
    }
    return reports;
  }

  const has = (name: string): ProcessGroup | undefined => {
    try {
      return context.group(name);
    } catch {
      return undefined;
    }
  };

  /** This rank's groups of a deal, if it has a part of it. */
  function layoutOf(index: number, pcp = 1): LayoutGroups | undefined {
    const all = has(`layout ${index}`);
    if (all === undefined) return undefined;
    if (pcp === 1) return { all, query: all, pcp: undefined };
    const queryRanks = all.size / pcp;
    const query = context.group(`layout ${index} query ${Math.floor(all.rank / queryRanks)}`);
    return { all, query, pcp: context.group(`layout ${index} pcp ${all.rank % queryRanks}`) };
  }

  return {
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
