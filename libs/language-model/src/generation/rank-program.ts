// What each rank of a generator's world runs.
import type { ContextImage, DcpAttentionMetrics } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import type { BackendName } from "@lockstep/kernels";
import type { Tensor, TensorDescriptor } from "@lockstep/tensor";
import type { StepTokens } from "../model/step-attention.ts";
import { GREEDY } from "../sampling/row-request.ts";
import { Sampler } from "../sampling/sampler.ts";
import { Batch, type BatchOptions, type BatchProgress, type BatchSnapshot, type BatchText } from "./batch.ts";
import { contextMethods } from "./context-rank.ts";
import { OWN_PROGRAM } from "./own-program.ts";
import { eraseCaches } from "./rank-attention.ts";
import { openRankModel, type StepHooks } from "./rank-model.ts";
import type { RankOptions } from "./rank-options.ts";
import type { StepTrace } from "./step-trace.ts";
import { TokenStream } from "./token-stream.ts";

/** What one rank did and holds since the world was opened. */
export interface RankMetrics {
  /** Global rank. */
  readonly rank: number;
  /** The backend that it computes on. */
  readonly backend: BackendName;
  /** What that runs on, for people. */
  readonly device: string;
  /** What its attention did and holds. */
  readonly attention: DcpAttentionMetrics;
  /** Bytes received in the tensor-parallel collectives (all-reduce of layer outputs, choice of the token). */
  readonly tensorParallelBytes: number;
  /** Tokens drafted, and those of them that were accepted, for the texts begun last. */
  readonly drafted: number;
  /** Those of `drafted` that the model agreed with. */
  readonly accepted: number;
}

/** How far the texts of a batch are. */
export interface BatchState {
  readonly isDone: boolean;
  readonly promptTokensDone: number;
}

/** Texts of ranks, and how far they are: what others need to go on. Plain data. */
export interface RankTexts {
  /** Sequences of the texts, in their order. */
  readonly sequences: readonly number[];
  /** Undefined where one text is continued step by step. */
  readonly batch: BatchSnapshot | undefined;
  /** Steps of the batch so far, and which of them is to be traced. */
  readonly steps: number;
  readonly traced: number | "last" | undefined;
  /** Whether there are logits of a last step. */
  readonly hasLogits: boolean;
}

/** Loads this rank's share of the model and opens its attention; returns what the host may call. */
export async function setup(context: RankContext, options: RankOptions, hooks: StepHooks = {}) {
  const { heap } = context;
  const model = await openRankModel(context, options, hooks);
  const { attention, backend, world, layers, share } = model;
  const { vocabulary } = share;
  const { vocabularySize } = options.config;
  const maxRows = options.maxLogitRows;
  const sampler = new Sampler({ layers, world, heap, vocabulary, vocabularySize, maxRows, maxWholeRows: 0 });
  const greedyRows = new Array<typeof GREEDY>(maxRows).fill(GREEDY);
  let sequences = [attention.createSequence()];
  let batch: Batch | undefined;
  /** Steps of the batch so far, which of them is to be traced, and the trace. */
  let steps = 0;
  let traced: number | "last" | undefined;
  let trace: StepTrace | undefined;
  let logits: Tensor | undefined;

  /** Tokens that follow those whose logits are asked for, the same on every rank. */
  async function forward(items: readonly StepTokens[], isPrefill: boolean): Promise<number[]> {
    logits = await model.forward(items, isPrefill);
    const rows = logits.dim(0);
    if (rows === 0) return [];
    return sampler.choose(logits, greedyRows.slice(0, rows)).tokens.map(({ token }) => token);
  }

  function restart(count: number): void {
    for (const sequence of sequences) attention.freeSequence(sequence);
    sequences = Array.from({ length: count }, () => attention.createSequence());
    batch = undefined;
  }

  async function advance(running: Batch): Promise<BatchProgress[]> {
    const step = running.next();
    const items = step.items.map(({ text, ids, logits: wanted }) => ({
      sequence: sequences[text] ?? -1,
      ids,
      logits: wanted,
    }));
    steps++;
    const isTraced = traced === "last" || traced === steps;
    if (isTraced) model.beginTrace();
    const choices = await forward(items, step.isPrefill);
    if (isTraced) {
      const sizes = step.items.map(({ text, ids }) => ({ text, sequence: sequences[text] ?? -1, tokens: ids.length }));
      trace = model.endTrace(steps, step.isPrefill, sizes);
    }
    const progress = running.accept(step, choices);
    for (const { text, stored } of progress) {
      const sequence = sequences[text] ?? -1;
      if (attention.sequenceLength(sequence) > stored) attention.truncateSequence(sequence, stored);
    }
    return progress;
  }

  return {
    ...contextMethods(attention, heap),

    /** How far the texts are. */
    texts: (): RankTexts => ({
      sequences,
      batch: batch?.snapshot,
      steps,
      traced,
      hasLogits: logits !== undefined,
    }),

    /** Forgets all texts and begins none: for rows of others' texts. */
    clear(): void {
      restart(0);
    },

    /** Goes on with texts whose rows were written. */
    resume(image: ContextImage, texts: RankTexts): void {
      attention.adoptContext(image);
      sequences = [...texts.sequences];
      batch = texts.batch === undefined ? undefined : Batch.resume(texts.batch);
      ({ steps, traced } = texts);
    },

    /** Forgets all texts and begins a new, empty one. */
    restart(): void {
      restart(1);
    },

    /** Appends tokens (at most maxStepTokens) to the text; returns the token that follows, the same on every rank. */
    async step(ids: readonly number[], isPrefill: boolean): Promise<number> {
      const [token = -1] = await forward([{ sequence: sequences[0] ?? -1, ids, logits: 1 }], isPrefill);
      return token;
    },

    /** Forgets all texts and begins new ones; one of their steps can be traced. */
    begin(texts: readonly BatchText[], batchOptions: BatchOptions, traceStep: number | "last" | undefined): void {
      restart(texts.length);
      steps = 0;
      traced = traceStep;
      trace = undefined;
      batch = new Batch(texts, batchOptions);
    },

    /**
     * Continues the texts by so many steps, or until all are done. Rank 0 writes their tokens to `stream` as they come.
     */
    async advance(steps: number, stream: TensorDescriptor): Promise<BatchState> {
      if (batch === undefined) throw new Error("call begin first");
      const output = context.rank === 0 ? TokenStream.open(stream, heap) : undefined;
      for (let step = 0; step < steps && !batch.isDone; step++) {
        for (const { text, tokens } of await advance(batch)) {
          for (const token of tokens) output?.push({ text, token });
        }
      }
      return { isDone: batch.isDone, promptTokensDone: batch.promptTokensDone };
    },

    /** What this rank did in the step that was to be traced; undefined when the texts ended before it. */
    trace(): StepTrace | undefined {
      return trace;
    },

    /** Logits of the last step's first row for this rank's rows of the vocabulary. */
    logits(): Float32Array {
      return Float32Array.from(logits?.select(0, 0).f32 ?? []);
    },

    identify: (): string => OWN_PROGRAM,

    metrics(): RankMetrics {
      const { name, device } = backend;
      const tensorParallelBytes = world.counters.bytesReceived;
      const { drafted, accepted } = batch ?? { drafted: 0, accepted: 0 };
      const { metrics } = attention;
      return { rank: context.rank, backend: name, device, attention: metrics, tensorParallelBytes, drafted, accepted };
    },

    /** Overwrites everything this rank has cached with zeros: shows what the other ranks' shards are worth alone. */
    async eraseCache(): Promise<void> {
      await eraseCaches(attention, backend, { heap, layers: options.config.layers });
    },
  };
}
