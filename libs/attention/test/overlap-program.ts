// The rank's side of the tests of overlapped halves: decode steps of random batches, whole and cut, and faults in them.
import { DcpAttention, type DcpAttentionOptions } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type KernelBackend, openBackend, type PartialAttentionArgs } from "@lockstep/kernels";
import { Arena, type DType, LockstepError, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const LAYERS = 2;

/** What attention is opened with. */
export interface OverlapShape {
  readonly heads: readonly [query: number, kv: number];
  readonly dims: readonly [key: number, value: number];
  readonly mla: boolean;
  readonly kvDtype: DType;
  readonly queryDtype: DType;
  readonly partialDtype: DType;
  readonly blockSize: number;
  readonly interleave: number;
  readonly combine: "a2a" | "ag-rs" | "one-shot" | "auto";
  readonly queryReplicated: boolean;
  readonly window?: number;
  readonly softcap?: number;
  readonly hasSinks: boolean;
  readonly weights?: readonly number[];
  /** Default: 64. */
  readonly numBlocks?: number;
}

/** Nothing special. */
export const PLAIN_OVERLAP: OverlapShape = {
  heads: [4, 2],
  dims: [16, 16],
  mla: false,
  kvDtype: "f32",
  queryDtype: "f32",
  partialDtype: "f32",
  blockSize: 4,
  interleave: 1,
  combine: "a2a",
  queryReplicated: false,
  hasSinks: false,
};

/** Query tokens of each sequence in a step, of which each brings as many keys. */
export type OverlapStep = readonly number[];

/** What a rank found. */
export interface OverlapResult {
  /** Of outputs and LSEs of all steps and layers. */
  readonly bits: number[];
  /** LSEs before they were combined, as `onPartialLse` was told. */
  readonly partial: number[];
  /** Layers' attentions that were cut. */
  readonly overlapped: number;
  /** Collectives of the group in each layer of the last step. */
  readonly collectives: number;
  readonly overlapChoices: DcpAttention["metrics"]["overlapChoices"];
}

/** A rank that fails in a half of the first layer. "stays": until it is terminated. */
export interface Fault {
  readonly rank: number;
  readonly how: "throws" | "hangs" | "stays";
  readonly half: 0 | 1;
}

/** Longer than the deadline of those who wait for a rank that hangs. */
const HANGS_MS = 4000;
const FOR_EVER_MS = 60_000;

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, rank } = context;
  const backend = await openTestBackend(context, options.backend);
  const merge = backend.isSynchronous ? backend : await openBackend("wasm", { heap });
  if (merge !== backend) context.onClose(() => merge.close());
  let opened: DcpAttention | undefined;
  let said = "nothing";
  context.onClose(() => opened?.close());

  function open(shape: OverlapShape, rows: number, more: Partial<DcpAttentionOptions>): DcpAttention {
    const { heads, dims, window, softcap, hasSinks: _, weights, ...rest } = shape;
    return DcpAttention.open({
      numBlocks: 64,
      ...rest,
      backend,
      heap,
      dcpGroup: context.world,
      layers: LAYERS,
      queryHeads: heads[0],
      kvHeads: heads[1],
      headDim: dims[0],
      valueDim: dims[1],
      maxStepQueries: rows,
      ...(window === undefined ? {} : { window }),
      ...(softcap === undefined ? {} : { softcap }),
      ...(weights === undefined ? {} : { weights }),
      ...more,
    });
  }

  /** A step of all sequences; returns bits. */
  async function step(
    attention: DcpAttention,
    { heads, dims, mla, queryDtype, queryReplicated }: OverlapShape,
    sequences: readonly number[],
    counts: OverlapStep,
    seed: number,
    scratch: Arena,
  ): Promise<{ readonly bits: number[]; readonly collectives: number }> {
    scratch.reset();
    const { world } = context;
    const own = headRange(heads[0], world.rank, world.size);
    const tokens = counts.reduce((sum, count) => sum + count, 0);
    const random = new RandomStream(seed);
    const rows = (count: number, dim: number, dtype: DType = "f32"): Tensor =>
      Tensor.from(scratch, dtype, [tokens, count, dim], random.normals(tokens * count * dim));
    attention.beginStep(counts.map((count, index) => ({ sequence: sequences[index] ?? -1, tokens: count })));
    const bits: number[] = [];
    const before = world.counters.ops;
    for (let layer = 0; layer < LAYERS; layer++) {
      const all = rows(heads[0], dims[0], queryDtype);
      const query = queryReplicated ? all : all.slice(1, own.start, own.end).clone(scratch);
      const [key, value] = [rows(heads[1], dims[0]), mla ? undefined : rows(heads[1], dims[1])];
      const out = Tensor.empty(scratch, queryDtype, [tokens, own.count, dims[1]]).fill(Number.NaN);
      const lse = Tensor.empty(scratch, "f32", [tokens, own.count]).fill(Number.NaN);
      await attention.forward(layer, query, key, value, out, lse);
      for (const { bytes } of [out, lse]) bits.push(...bytes);
    }
    const collectives = (world.counters.ops - before) / LAYERS;
    attention.endStep();
    return { bits, collectives };
  }

  return {
    /** Runs the steps over fresh caches. */
    async run(
      shape: OverlapShape,
      steps: readonly OverlapStep[],
      overlap: "auto" | "on" | "off",
      seed: number,
      place: "heap" | "merged in the heap" = "heap",
    ): Promise<OverlapResult> {
      const sinkValues = new RandomStream(7).normals(LAYERS * shape.heads[0]);
      const sinks = Tensor.from(heap, "f32", [LAYERS, shape.heads[0]], sinkValues);
      const scratch = new Arena(heap, 8 << 20);
      const partial: number[] = [];
      const rows = Math.max(1, ...steps.map((counts) => counts.reduce((sum, count) => sum + count, 0)));
      const attention = open(shape, rows, {
        overlap,
        ...(shape.hasSinks ? { sinks } : {}),
        ...(place === "heap" ? {} : { mergeBackend: merge }),
        // Only one rank listens: that is its own affair.
        ...(place !== "heap" && rank === 0
          ? { onPartialLse: (_: number, lse: Tensor) => void partial.push(...lse.toNumbers()) }
          : {}),
      });
      try {
        const sequences = (steps[0] ?? []).map(() => attention.createSequence());
        const bits: number[] = [];
        let collectives = 0;
        for (const [index, counts] of steps.entries()) {
          const found = await step(attention, shape, sequences, counts, seed + index, scratch);
          bits.push(...found.bits);
          collectives = found.collectives;
        }
        const { overlapped, overlapChoices } = attention.metrics;
        return { bits, partial, overlapped, collectives, overlapChoices };
      } finally {
        attention.close();
        scratch.close();
        sinks.free();
      }
    },

    /** Bytes of the heap that each of so many steps took and did not give back, after a first one. */
    async growth(shape: OverlapShape, counts: OverlapStep, times: number): Promise<number> {
      const scratch = new Arena(heap, 8 << 20);
      const attention = open(shape, 64, { overlap: "on", numBlocks: 512 });
      const sequences = counts.map(() => attention.createSequence());
      const one = (seed: number): Promise<unknown> => step(attention, shape, sequences, counts, seed, scratch);
      for (let warm = 0; warm < 3; warm++) await one(warm);
      const used = heap.usedBytes;
      for (let time = 0; time < times; time++) await one(10 + time);
      const grown = heap.usedBytes - used;
      attention.close();
      scratch.close();
      return grown;
    },

    /** A step in which a rank fails, then `cancelStep`. Throws where it failed. */
    async fault(shape: OverlapShape, counts: OverlapStep, fault: Fault, deadlineMs: number): Promise<void> {
      said = "nothing";
      const failing = rank === fault.rank ? failingBackend(merge, fault) : merge;
      const attention = open(shape, 64, { overlap: "on", backend: failing, mergeBackend: merge, deadlineMs });
      opened = attention;
      const sequences = counts.map(() => attention.createSequence());
      const scratch = new Arena(heap, 8 << 20);
      try {
        await step(attention, shape, sequences, counts, 1, scratch);
      } catch (error) {
        attention.cancelStep();
        const isEmpty = sequences.every((sequence) => attention.sequenceLength(sequence) === 0);
        const name = error instanceof LockstepError ? error._tag : String(error);
        said = isEmpty ? name : `${name}, and tokens are left`;
        throw error;
      } finally {
        scratch.close();
      }
    },

    /** What the last `fault` came out with. */
    said: () => said,

    /** Goes on with new groups: the same step without a fault, and one whole for comparison. */
    async goOn(shape: OverlapShape, counts: OverlapStep): Promise<boolean> {
      const attention = opened;
      if (attention === undefined) throw new Error("not opened");
      attention.useGroups({ dcpGroup: context.world });
      const scratch = new Arena(heap, 8 << 20);
      const again = await step(
        attention,
        shape,
        counts.map(() => attention.createSequence()),
        counts,
        1,
        scratch,
      );
      attention.close();
      const whole = open(shape, 64, { overlap: "off", backend: merge });
      const wanted = await step(
        whole,
        shape,
        counts.map(() => whole.createSequence()),
        counts,
        1,
        scratch,
      );
      whole.close();
      scratch.close();
      return again.bits.length > 0 && again.bits.every((byte, at) => byte === wanted.bits[at]);
    },
  };
}

/** A backend whose partial attention fails once: when it is asked for a half. */
function failingBackend(backend: KernelBackend, { how, half }: Fault): KernelBackend {
  let calls = 0;
  const fails = (): void => {
    if (calls++ !== half) return;
    if (how === "throws") throw new Error("stopped on purpose");
    const milliseconds = how === "hangs" ? HANGS_MS : FOR_EVER_MS;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
  };
  return new Proxy(backend, {
    get(target, name) {
      if (name === "prepared") return undefined;
      if (name === "partialAttention") {
        return (args: PartialAttentionArgs) => {
          fails();
          return target.partialAttention(args);
        };
      }
      const found: unknown = Reflect.get(target, name, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
}
