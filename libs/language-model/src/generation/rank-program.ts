// What each rank of a generator's world runs.
import { DcpAttention, type DcpAttentionMetrics, type DcpAttentionOptions, type KvScales } from "@lockstep/attention";
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import type { BackendName } from "@lockstep/kernels";
import { SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { LayerProgram } from "../layers/layer-program.ts";
import { Layers } from "../layers/layers.ts";
import type { WeightKind } from "../layers/weight.ts";
import { Checkpoint } from "../model/checkpoint.ts";
import type { ModelConfig } from "../model/config.ts";
import { type ModelSource, modelFolder, nameOf } from "../model/model-files.ts";
import { decodeStep, prefillStep, type StepAttention, type StepTokens } from "../model/step-attention.ts";
import { lengthOf, type ParallelSizes, rankShare } from "../model/tensor-parallel.ts";
import { Transformer } from "../model/transformer.ts";
import { widestInput } from "../model/weight-parts.ts";
import { loadWeights } from "../model/weights.ts";
import { Batch, type BatchOptions, type BatchProgress, type BatchText } from "./batch.ts";
import { GreedySampler } from "./greedy.ts";
import { isQuantisedKv, KvCalibration, type KvDtype, nonFiniteKv, type QuantisedKv } from "./kv-calibration.ts";
import { type LoadProgress, noteLoaded } from "./load-progress.ts";
import { calibrationBlocks, type MemoryLayout } from "./memory-plan.ts";
import { OWN_PROGRAM } from "./own-program.ts";
import { openRankBackend } from "./rank-backend.ts";
import { type StepTrace, StepTracer } from "./step-trace.ts";
import { TokenStream } from "./token-stream.ts";

/** What the host tells every rank. Plain data. */
export interface RankOptions {
  readonly model: ModelSource;
  readonly config: ModelConfig;
  readonly sizes: ParallelSizes;
  readonly backend: BackendName | "auto";
  readonly softwareVulkan: boolean;
  /** GPUs that the ranks are spread over. */
  readonly gpus: number;
  readonly sharedGpu: boolean;
  /** Whether "auto" may be wasm where no GPU can be used. */
  readonly canFallBack: boolean;
  readonly combine: "ag-rs" | "a2a" | "one-shot" | "auto";
  readonly weights: WeightKind;
  readonly kvDtype: KvDtype;
  /** Tokens whose keys and values decide the static scales of a quantised KV cache; empty for others. */
  readonly calibration: readonly number[];
  readonly blockSize: number;
  readonly interleave: number;
  /** KV blocks of one rank. */
  readonly numBlocks: number;
  readonly maxStepTokens: number;
  readonly maxLogitRows: number;
  readonly prefillChunk: number | undefined;
  readonly memory: MemoryLayout;
  /** Where ranks tell the host how much they have read. */
  readonly loaded: LoadProgress;
}

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
  const headsPerKv = config.queryHeads / config.kvHeads;
  const attentionOptions: DcpAttentionOptions = {
    backend: backend.attend,
    mergeBackend: backend.merge,
    heap,
    dcpGroup: context.group("dcp"),
    layers: config.layers,
    queryHeads: lengthOf(share.groupQueryHeads),
    kvHeads: lengthOf(share.kvHeads),
    headDim: config.headDim,
    ...(config.windows.some((window) => window !== null) ? { window: config.windows } : {}),
    headGroup: { size: headsPerKv, offset: share.groupQueryHeads.start - share.kvHeads.start * headsPerKv },
    kvDtype: "f32",
    blockSize,
    interleave,
    numBlocks,
    combine,
    maxStepQueries: maxStepTokens,
  };

  /**
   * Scales for a quantised cache, from the keys and values of a sample that an unquantised one holds for the time
   * being.
   */
  async function calibrate(dtype: QuantisedKv): Promise<KvScales[]> {
    const calibration = new KvCalibration(config.layers, lengthOf(share.kvHeads));
    const blocks = calibrationBlocks(options.calibration.length, blockSize, sizes.dcp);
    const attention = DcpAttention.open({ ...attentionOptions, numBlocks: blocks });
    try {
      const sequence = attention.createSequence();
      for (let done = 0; done < options.calibration.length; done += maxStepTokens) {
        const ids = options.calibration.slice(done, done + maxStepTokens);
        await transformer.forward(calibration.observe(decodeStep(attention)), [{ sequence, ids, logits: 0 }]);
      }
    } finally {
      attention.close();
    }
    const own = Tensor.from(heap, "f32", [1], [calibration.firstNonFinite]);
    const all = Tensor.empty(heap, "f32", [world.size]);
    world.allGather(own, all, { dim: 0 });
    const first = Math.min(...all.f32);
    own.free();
    all.free();
    // What is damaged on one rank reaches the others in later layers: all name the first.
    if (first !== Number.POSITIVE_INFINITY) throw nonFiniteKv(nameOf(options.model), first);
    return calibration.scales(dtype);
  }

  let tracer: StepTracer | undefined;
  const attention = DcpAttention.open({
    ...attentionOptions,
    onPartialLse: (layer, lse) => tracer?.takePartialLse(layer, lse),
    kvDtype,
    ...(isQuantisedKv(kvDtype) && options.calibration.length > 0 ? { kvScales: await calibrate(kvDtype) } : {}),
    ...(options.prefillChunk === undefined ? {} : { prefillChunk: options.prefillChunk }),
  });
  context.onClose(() => attention.close());
  let sequences = [attention.createSequence()];
  let batch: Batch | undefined;
  /** Steps of the batch so far, which of them is to be traced, and the trace. */
  let steps = 0;
  let traced: number | "last" | undefined;
  let trace: StepTrace | undefined;
  let logits: Tensor | undefined;

  /** Tokens that follow those whose logits are asked for, the same on every rank. */
  async function forward(items: readonly StepTokens[], isPrefill: boolean): Promise<number[]> {
    const decoding = tracer === undefined ? decodeStep(attention) : tracer.observe(attention, decodeStep(attention));
    // In memory that ranks share queries travel as fast as keys, and a step has the same bits either way; what is traced
    // is what was asked for.
    const gathersKeys = isPrefill && (tracer !== undefined || !backend.attend.isSynchronous);
    logits = await transformer.forward(inAttention(gathersKeys ? prefillStep(attention) : decoding), items);
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
      for (let layer = 0; layer < config.layers; layer++) {
        for (const cache of [attention.keyCache(layer), attention.valueCache(layer)]) {
          const zeros = Tensor.zeros(heap, cache.dtype, [1, ...cache.shape.slice(1)]);
          for (let block = 0; block < numBlocks; block++) {
            await backend.attend.upload(zeros, cache.slice(0, block, block + 1));
          }
          zeros.free();
        }
      }
    },
  };
}
