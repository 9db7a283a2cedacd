// Contexts on one rank in the tests of moves between layouts: how they are opened, filled, and go on.
import type { DcpAttention, DcpAttentionOptions } from "@lockstep/attention";
import { headRange, type ProcessGroup, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { type Deal, LAYERS, QUERY_HEADS, type RowShape, type SequenceReport } from "./redistribute-cases.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

/** This rank's groups of a deal. */
export interface LayoutGroups {
  readonly all: ProcessGroup;
  readonly query: ProcessGroup;
  readonly pcp: ProcessGroup | undefined;
}

/** What a rank does with contexts of these tests. */
export type ContextDriver = Awaited<ReturnType<typeof contextDriver>>;

/** Opens a backend, and does on it what all these tests do. */
export async function contextDriver(context: RankContext, name: TestBackend) {
  const { heap } = context;
  const backend = await openTestBackend(context, name);
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

  return { optionsOf, append, textsOf, fill, goOn, has, layoutOf };
}
