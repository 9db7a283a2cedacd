// The rank's side of the tests of contexts that move between layouts.
import { DcpAttention, type DcpAttentionOptions, type RedistributeMetrics } from "@lockstep/attention";
import { headRange, type ProcessGroup, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, type DType, LockstepError, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const LAYERS = 2;
const QUERY_HEADS = 4;

/** What is stored of a token. */
export interface RowShape {
  readonly kvHeads: number;
  readonly dims: readonly [key: number, value: number];
  readonly kvDtype: DType;
  readonly mla: boolean;
  readonly scales?: number;
}

/** How a context is dealt to ranks. */
export interface Deal {
  readonly interleave: number;
  readonly weights?: readonly number[];
  readonly blockSize: number;
  readonly numBlocks: number;
}

/** Moves one after another: the first deal is where the context begins. */
export interface MoveCase {
  readonly shape: RowShape;
  /** Each with a group named `layout I`. */
  readonly deals: readonly Deal[];
  /** Names of groups of all ranks of a deal and of the next. */
  readonly unions: readonly string[];
  readonly workspaceBytes: number;
  readonly seed: number;
}

/** What a rank saw. */
export interface MoveReport {
  readonly metrics: readonly RedistributeMetrics[];
  /** Tokens that this rank held before and after each move. */
  readonly held: readonly (readonly [before: number, after: number])[];
  /** Blocks in use after each move, on ranks that have some. */
  readonly blocks: readonly number[];
  /** Of each sequence at the end: tokens, and the bits of the tokens that follow. */
  readonly moved: readonly SequenceReport[];
  /** The same of a context that was always dealt like that. */
  readonly expected: readonly SequenceReport[];
  /** Tokens found of the known texts at the end. */
  readonly known: readonly number[];
}

export interface SequenceReport {
  readonly length: number;
  readonly bits: readonly number[];
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

  function optionsOf(group: ProcessGroup, { kvHeads, dims, kvDtype, mla, scales }: RowShape, deal: Deal) {
    const kvScales = scales === undefined ? {} : { kvScales: { key: scales, value: scales } };
    return {
      ...deal,
      ...kvScales,
      backend,
      mergeBackend,
      heap,
      dcpGroup: group,
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

  /** Appends tokens; returns the bits of the last one's results. Keys and values follow from token and position. */
  async function append(
    attention: DcpAttention,
    group: ProcessGroup,
    shape: RowShape,
    sequence: number,
    ids: number[],
  ) {
    const { kvHeads, dims, mla } = shape;
    const own = headRange(QUERY_HEADS, group.rank, group.size);
    const from = attention.sequenceLength(sequence);
    attention.beginStep([{ sequence, tokens: ids.length }]);
    const bits: number[] = [];
    for (let layer = 0; layer < LAYERS; layer++) {
      const numbers = (count: number, dim: number, salt: number): Tensor => {
        const values = ids.flatMap((id, at) => [
          ...new RandomStream(100_000 * salt + 1000 * id + from + at).normals(count * dim),
        ]);
        return Tensor.from(scratch, "f32", [ids.length, count, dim], values);
      };
      const query = numbers(QUERY_HEADS, dims[0], layer).slice(1, own.start, own.end);
      const key = numbers(kvHeads, dims[0], 2 + layer);
      const value = mla ? undefined : numbers(kvHeads, dims[1], 4 + layer);
      const out = Tensor.empty(scratch, "f32", [ids.length, own.end - own.start, dims[1]]).fill(Number.NaN);
      await attention.forward(layer, query, key, value, out);
      const last = out.select(0, ids.length - 1);
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
  async function fill(attention: DcpAttention, group: ProcessGroup, shape: RowShape, seed: number): Promise<void> {
    const { first, second, fork, cut, known } = textsOf(seed);
    const grow = async (sequence: number, ids: readonly number[]): Promise<void> => {
      while (attention.sequenceLength(sequence) < ids.length) {
        const at = attention.sequenceLength(sequence);
        await append(attention, group, shape, sequence, ids.slice(at, at + 13));
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
  async function goOn(attention: DcpAttention, group: ProcessGroup, shape: RowShape): Promise<SequenceReport[]> {
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

  return {
    async move({ shape, deals, unions, workspaceBytes, seed }: MoveCase): Promise<MoveReport> {
      const start = has("layout 0");
      let attention: DcpAttention | undefined;
      const [first] = deals;
      if (start !== undefined && first !== undefined) {
        attention = DcpAttention.open(optionsOf(start, shape, first));
        await fill(attention, start, shape, seed);
      }
      const metrics: RedistributeMetrics[] = [];
      const held: [number, number][] = [];
      const blocks: number[] = [];
      for (const [at, name] of unions.entries()) {
        const group = has(name);
        const deal = deals[at + 1];
        if (group === undefined || deal === undefined) continue;
        const target = has(`layout ${at + 1}`);
        const heldBefore = attention?.metrics.tokensHeld ?? 0;
        const used = heap.usedBytes;
        const moved = await DcpAttention.redistribute({
          group,
          workspaceBytes,
          ...(attention === undefined ? {} : { from: attention }),
          ...(target === undefined ? {} : { to: optionsOf(target, shape, deal) }),
        });
        if (moved.attention === undefined && heap.usedBytes > used) throw new Error("something stayed allocated");
        attention = moved.attention;
        metrics.push(moved.metrics);
        held.push([heldBefore, attention?.metrics.tokensHeld ?? 0]);
        if (attention !== undefined) blocks.push(attention.blocks.total - attention.blocks.free);
      }
      const last = has(`layout ${deals.length - 1}`);
      const deal = deals.at(-1);
      const report = { metrics, held, blocks, moved: [], expected: [], known: [] };
      if (attention === undefined || last === undefined || deal === undefined) return report;
      const { known, second } = textsOf(seed);
      const found = [known, second].map((ids) => attention?.knownPrefix([...ids, 0]) ?? -1);
      // What is known is what it says: a text that begins with it goes on as if all had been computed here.
      const begun = attention.createSequenceFrom([...known, 0]);
      const begunBits = await append(attention, last, shape, begun.sequence, [...known.slice(begun.cached), 0]);
      attention.freeSequence(begun.sequence);
      const moved = await goOn(attention, last, shape);
      attention.close();
      const fresh = DcpAttention.open(optionsOf(last, shape, deal));
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
      trouble: "in a step" | "signal" | "exhausted" | "too small" | "other heads" | "late" | "no blocks" | "dies",
      culprit: number,
    ): Promise<{ error: string; ranks: readonly number[]; goesOn: boolean; leaks: number }> {
      const [first, next] = deals;
      const [old, target] = [has("layout 0"), has("layout 1")];
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
        if (trouble === "dies" && isCulprit) {
          // In the middle of a round: the peers are on their way.
          Object.defineProperty(signal, "aborted", {
            get: () => {
              if (++looks.count > 3) for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
              return false;
            },
          });
        }
        const group = context.group("union 0");
        const { attention: opened } = await DcpAttention.redistribute({
          group,
          signal,
          workspaceBytes: trouble === "too small" ? 600 : trouble === "exhausted" ? 1 << 20 : 4000,
          ...(trouble === "late" || trouble === "dies" ? { deadlineMs: 700 } : {}),
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
      if (attention === undefined || old === undefined || trouble === "dies") {
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
  };
}
