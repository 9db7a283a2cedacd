// What each rank of a generator's world runs.
import { DcpAttention, type DcpAttentionMetrics } from "@lockstep/attention";
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import type { BackendName } from "@lockstep/kernels";
import { SharedHeap, type Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { LayerProgram } from "../layers/layer-program.ts";
import { Layers } from "../layers/layers.ts";
import { Checkpoint } from "../model/checkpoint.ts";
import { modelFolder, nameOf } from "../model/model-files.ts";
import { decodeStep, prefillStep, type StepAttention, type StepTokens } from "../model/step-attention.ts";
import { rankShare } from "../model/tensor-parallel.ts";
import { Transformer } from "../model/transformer.ts";
import { widestInput } from "../model/weight-parts.ts";
import { loadWeights } from "../model/weights.ts";
import { Batch, type BatchOptions, type BatchProgress, type BatchText } from "./batch.ts";
import { calibrateKv } from "./calibrate-kv.ts";
import { GreedySampler } from "./greedy.ts";
import { isQuantisedKv } from "./kv-calibration.ts";
import { noteLoaded } from "./load-progress.ts";
import { OWN_PROGRAM } from "./own-program.ts";
import { eraseCaches, modelAttention } from "./rank-attention.ts";
import { openRankBackend } from "./rank-backend.ts";
import type { RankOptions } from "./rank-options.ts";
import { type StepTrace, StepTracer } from "./step-trace.ts";
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

/** Where a profile looks into a rank's steps. */
export interface StepHooks {
  /** Runs a recorded program of layers. */
  readonly runProgram?: (program: LayerProgram) => void;
  /** The group that layer outputs are summed and tokens are chosen over, in another's clothes. */
  readonly inGroup?: (world: ProcessGroup) => ProcessGroup;
  /** A step's attention, likewise. */
  readonly inAttention?: (step: StepAttention) => StepAttention;
}

/** Loads this rank's share of the model and opens its attention; returns what the host may call. */
export async function setup(context: RankContext, options: RankOptions, hooks: StepHooks = {}) {
  const { config, sizes, kvDtype, blockSize, interleave, numBlocks, maxStepTokens, maxLogitRows, combine } = options;
  const { heap } = context;
  const { inGroup = (group) => group, inAttention = (step) => step } = hooks;
  const world = inGroup(context.world);
  const share = rankShare(sizes, context.rank, config);
  // What only this rank reads lies in memories of its own, where the one that the ranks share does not hold it.
  const { ownBytes, cacheBytes } = options.memory;
  const ownHeap = ownBytes === 0 ? heap : SharedHeap.create(ownBytes);
  const cacheHeap = (): SharedHeap => (cacheBytes === 0 ? ownHeap : SharedHeap.create(cacheBytes));
  const room = { maxTokens: maxStepTokens, maxInputs: widestInput(config, share) };
  const layers = Layers.open(ownHeap, room);
  using checkpoint = Checkpoint.open(modelFolder("Generator.open", options.model), config);
  const weights = loadWeights(checkpoint, config, share, layers, ownHeap, {
    weights: options.weights,
    onBytes: (bytes) => noteLoaded(options.loaded, context.rank, bytes),
  });
  const transformer = new Transformer({
    config,
    share,
    weights,
    layers,
    world,
    heap,
    ownHeap,
    maxStepTokens,
    maxLogitRows,
    runProgram: hooks.runProgram,
  });
  const sampler = new GreedySampler(layers, world, heap, share.vocabulary.start, maxLogitRows);

  const backend = await openRankBackend(context, options, cacheHeap);
  const attentionOptions = {
    ...modelAttention(config, share),
    backend: backend.attend,
    mergeBackend: backend.merge,
    heap,
    dcpGroup: context.group("dcp"),
    blockSize,
    interleave,
    combine,
    maxStepQueries: maxStepTokens,
  };
  const kvScales =
    isQuantisedKv(kvDtype) && options.calibration.length > 0
      ? await calibrateKv(kvDtype, {
          modelName: nameOf(options.model),
          tokens: options.calibration,
          config,
          share,
          dcp: sizes.dcp,
          attention: attentionOptions,
          transformer,
          world,
          heap,
          maxStepTokens,
        })
      : undefined;

  let tracer: StepTracer | undefined;
  const attention = DcpAttention.open({
    ...attentionOptions,
    numBlocks,
    kvDtype,
    ...(kvScales === undefined ? {} : { kvScales }),
    onPartialLse: (layer, lse) => tracer?.takePartialLse(layer, lse),
    ...(options.prefillChunk === undefined ? {} : { prefillChunk: options.prefillChunk }),
  });
  context.onClose(() => attention.close());
  const decoding = inAttention(decodeStep(attention));
  const prefilling = inAttention(prefillStep(attention));
  let sequences = [attention.createSequence()];
  let batch: Batch | undefined;
  /** Steps of the batch so far, which of them is to be traced, and the trace. */
  let steps = 0;
  let traced: number | "last" | undefined;
  let trace: StepTrace | undefined;
  let logits: Tensor | undefined;

  /** Tokens that follow those whose logits are asked for, the same on every rank. */
  async function forward(items: readonly StepTokens[], isPrefill: boolean): Promise<number[]> {
    const decodingNow = tracer === undefined ? decoding : inAttention(tracer.observe(attention, decodeStep(attention)));
    // In memory that ranks share queries travel as fast as keys, and a step has the same bits either way; what is traced
    // is what was asked for.
    const gathersKeys = isPrefill && (tracer !== undefined || !backend.attend.isSynchronous);
    logits = await transformer.forward(gathersKeys ? prefilling : decodingNow, items);
    return sampler.choose(logits);
  }

  function restart(count: number): void {
    for (const sequence of sequences) attention.freeSequence(sequence);
    sequences = Array.from({ length: count }, () => attention.createSequence());
    batch = undefined;
  }

  function openTracer(): StepTracer {
    const { queryHeads: ownHeads, groupQueryHeads: groupHeads } = share;
    return new StepTracer({
      attention,
      dcpGroup: context.group("dcp"),
      world,
      heap,
      rank: context.rank,
      groupHeads,
      ownHeads,
    });
  }

  async function advance(running: Batch): Promise<BatchProgress[]> {
    const step = running.next();
    const items = step.items.map(({ text, ids, logits: wanted }) => ({
      sequence: sequences[text] ?? -1,
      ids,
      logits: wanted,
    }));
    steps++;
    tracer = traced === "last" || traced === steps ? openTracer() : undefined;
    const choices = await forward(items, step.isPrefill);
    if (tracer !== undefined) {
      const sizes = step.items.map(({ text, ids }) => ({ text, sequence: sequences[text] ?? -1, tokens: ids.length }));
      trace = tracer.finish(steps, step.isPrefill, sizes);
      tracer = undefined;
    }
    const progress = running.accept(step, choices);
    for (const { text, stored } of progress) {
      const sequence = sequences[text] ?? -1;
      if (attention.sequenceLength(sequence) > stored) attention.truncateSequence(sequence, stored);
    }
    return progress;
  }

  return {
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
      const { name, device } = backend.attend;
      const tensorParallelBytes = world.counters.bytesReceived;
      const { drafted, accepted } = batch ?? { drafted: 0, accepted: 0 };
      const { metrics } = attention;
      return { rank: context.rank, backend: name, device, attention: metrics, tensorParallelBytes, drafted, accepted };
    },

    /** Overwrites everything this rank has cached with zeros: shows what the other ranks' shards are worth alone. */
    async eraseCache(): Promise<void> {
      await eraseCaches(attention, backend.attend, { heap, layers: config.layers, numBlocks });
    },
  };
}
