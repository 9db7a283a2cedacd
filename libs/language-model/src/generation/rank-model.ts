// A rank's share of a model, loaded and ready to compute: what every program of ranks begins with.
import { DcpAttention } from "@lockstep/attention";
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import type { KernelBackend } from "@lockstep/kernels";
import { SharedHeap, type Tensor } from "@lockstep/tensor";
import type { LayerProgram } from "../layers/layer-program.ts";
import { Layers } from "../layers/layers.ts";
import { Checkpoint } from "../model/checkpoint.ts";
import { modelFolder, nameOf } from "../model/model-files.ts";
import { decodeStep, prefillStep, type StepAttention, type StepTokens } from "../model/step-attention.ts";
import { type RankShare, rankShare } from "../model/tensor-parallel.ts";
import { Transformer } from "../model/transformer.ts";
import { widestInput } from "../model/weight-parts.ts";
import { loadWeights } from "../model/weights.ts";
import { agreeOnCheckpoint } from "./agree-on-checkpoint.ts";
import { calibrateKv } from "./calibrate-kv.ts";
import { isQuantisedKv } from "./kv-calibration.ts";
import { loadNotes } from "./load-progress.ts";
import { modelAttention } from "./rank-attention.ts";
import { openRankBackend } from "./rank-backend.ts";
import type { RankOptions } from "./rank-options.ts";
import { type StepTrace, StepTracer } from "./step-trace.ts";

/** Where a profile looks into a rank's steps. */
export interface StepHooks {
  /** Runs a recorded program of layers. */
  readonly runProgram?: (program: LayerProgram) => void;
  /** The group that layer outputs are summed and tokens are chosen over, in another's clothes. */
  readonly inGroup?: (world: ProcessGroup) => ProcessGroup;
  /** A step's attention, likewise. */
  readonly inAttention?: (step: StepAttention) => StepAttention;
}

/** A rank's share of a model, and one step of it at a time. */
export interface RankModel {
  /** The tensor-parallel group: every rank. */
  readonly world: ProcessGroup;
  readonly share: RankShare;
  readonly layers: Layers;
  readonly attention: DcpAttention;
  readonly backend: KernelBackend;
  /**
   * Appends tokens to sequences in one pass.
   * @param isPrefill a part of one prompt alone, which GPUs compute over keys that they gather
   * @returns logits of the rows asked for [rows, this rank's rows of the vocabulary], valid until the next pass
   */
  forward(items: readonly StepTokens[], isPrefill: boolean): Promise<Tensor>;
  /** Takes the next step down, until {@link RankModel.endTrace}. */
  beginTrace(): void;
  /** What the step since was. `step` is its number, `items` its sequences with the numbers of their texts. */
  endTrace(step: number, isPrefill: boolean, items: readonly TracedItem[]): StepTrace;
}

/** What one text brought to a step that is traced. */
export interface TracedItem {
  readonly text: number;
  readonly sequence: number;
  readonly tokens: number;
}

/** Loads this rank's share of a model and opens its attention, which closes with the rank. */
export async function openRankModel(
  context: RankContext,
  options: RankOptions,
  hooks: StepHooks = {},
): Promise<RankModel> {
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
  const folder = modelFolder("Generator.open", options.model);
  using checkpoint = Checkpoint.open(folder, config);
  if (context.hostProcess.count > 1) await agreeOnCheckpoint(folder, context.world);
  const weights = loadWeights(checkpoint, config, share, layers, ownHeap, {
    weights: options.weights,
    onBytes: loadNotes(options.loaded, context),
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
  const backend = await openRankBackend(context, options, cacheHeap);
  const attentionOptions = {
    ...modelAttention(config, share, sizes),
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

  // In memory that ranks share queries travel as fast as keys, and a step has the same bits either way.
  const gathersPrefills = options.prefillChunk !== undefined && !backend.attend.isSynchronous;
  let tracer: StepTracer | undefined;
  const attention = DcpAttention.open({
    ...attentionOptions,
    numBlocks,
    prefixCache: options.prefixCache,
    kvDtype,
    ...(options.kvWeights === undefined ? {} : { weights: options.kvWeights }),
    ...(kvScales === undefined ? {} : { kvScales }),
    onPartialLse: (layer, lse) => tracer?.takePartialLse(layer, lse),
    ...(gathersPrefills ? { prefillChunk: options.prefillChunk } : {}),
  });
  context.onClose(() => attention.close());
  const decoding = inAttention(decodeStep(attention));
  const prefilling = inAttention(prefillStep(attention));

  return {
    world,
    share,
    layers,
    attention,
    backend: backend.attend,

    async forward(items, isPrefill) {
      const decodingNow =
        tracer === undefined ? decoding : inAttention(tracer.observe(attention, decodeStep(attention)));
      try {
        return await transformer.forward(isPrefill && gathersPrefills ? prefilling : decodingNow, items);
      } catch (error) {
        tracer = undefined;
        throw error;
      }
    },

    beginTrace() {
      const { queryHeads: ownHeads, groupQueryHeads: groupHeads } = share;
      const dcpGroup = context.group("dcp");
      tracer = new StepTracer({ attention, dcpGroup, world, heap, rank: context.rank, groupHeads, ownHeads });
    },

    endTrace(step, isPrefill, items) {
      if (tracer === undefined) throw new Error("call beginTrace first");
      const trace = tracer.finish(step, isPrefill, items);
      tracer = undefined;
      return trace;
    },
  };
}
