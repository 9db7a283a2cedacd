// What each rank of a trial runs: steps of several ways of spreading a model, to see what they take.
import { DcpAttention } from "@lockstep/attention";
import type { ProcessGroup, RankContext } from "@lockstep/dist-groups";
import type { KernelBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { Layers } from "../layers/layers.ts";
import type { Weight, WeightKind } from "../layers/weight.ts";
import type { ModelConfig } from "../model/config.ts";
import { decodeStep, type StepAttention, type StepTokens } from "../model/step-attention.ts";
import type { StoredDTypes } from "../model/stored-dtypes.ts";
import { type ParallelSizes, type RankShare, rankShare } from "../model/tensor-parallel.ts";
import { Transformer } from "../model/transformer.ts";
import { widestInput } from "../model/weight-parts.ts";
import { GREEDY } from "../sampling/row-request.ts";
import { Sampler } from "../sampling/sampler.ts";
import type { KvDtype } from "./kv-calibration.ts";
import { OWN_PROGRAM } from "./own-program.ts";
import { eraseCaches, modelAttention } from "./rank-attention.ts";
import { openRankBackend, type RankBackendOptions } from "./rank-backend.ts";
import { setSequenceLength } from "./sequence-length.ts";
import { TrialWeights } from "./trial-weights.ts";
import { type TrialTimes, wholeStep } from "./world-times.ts";

/** A way of spreading the model of a trial. */
export interface TrialCandidate {
  readonly sizes: ParallelSizes;
  /** Shares of the KV cache of the ranks of a DCP group; undefined: equal ones. */
  readonly kvWeights: readonly number[] | undefined;
  /** KV blocks, of which each rank stores its share. */
  readonly numBlocks: number;
}

/** What the host tells every rank of a trial. Plain data. */
export interface TrialOptions extends RankBackendOptions {
  readonly isTrial: true;
  /** The model, of a few of its layers and perhaps a part of its vocabulary. */
  readonly config: ModelConfig;
  readonly stored: StoredDTypes;
  readonly weights: WeightKind;
  readonly kvDtype: KvDtype;
  readonly combine: "ag-rs" | "a2a" | "one-shot";
  readonly blockSize: number;
  readonly interleave: number;
  readonly maxStepTokens: number;
  /** Bytes of a memory of this rank's own; 0 when the shared one holds all. */
  readonly ownBytes: number;
  readonly candidates: readonly TrialCandidate[];
  /** Texts of a decode step, and their lengths, in turn. */
  readonly texts: number;
  readonly lengths: readonly number[];
  /** Tokens of a prompt that are computed at once; 0 when that is not timed. */
  readonly promptTokens: number;
  /** Tokens of the prompt before them. */
  readonly promptStart: number;
  /** Layers and tokens of the vocabulary that the whole model has. */
  readonly layers: number;
  readonly vocabulary: number;
}

/** Decode steps of a candidate one after another. */
const STEPS_OF_A_TURN = 3;
/** Prompts take longer and tell less apart: one in so many rounds. */
const ROUNDS_OF_A_PROMPT = 2;

/** Names of the groups of candidate `index`. */
export function trialGroups(index: number): { readonly all: string; readonly dcp: string } {
  return { all: `trial-${index}`, dcp: `trial-${index}-dcp` };
}

/** Opens every candidate that this rank takes part in; returns what the host may call. */
export async function setup(context: RankContext, options: TrialOptions) {
  const { config, candidates } = options;
  const { heap, rank } = context;
  const ownHeap = options.ownBytes === 0 ? heap : SharedHeap.create(options.ownBytes);
  const owned = candidates.map(({ sizes }) => (rank < sizes.world ? rankShare(sizes, rank, config) : undefined));
  const shares = owned.filter((share) => share !== undefined);
  const widest = Math.max(...shares.map((share) => widestInput(config, share)));
  const room = { maxTokens: options.maxStepTokens, maxInputs: widest };
  const layers = Layers.open(ownHeap, room);
  const weights = new TrialWeights(ownHeap, config, shares, options.stored, options.weights);
  const backend = await openRankBackend(context, options, () => ownHeap);
  const hidden = Tensor.zeros(ownHeap, "f32", [Math.max(1, options.texts), config.hiddenSize]);
  const runs: (TrialRun | undefined)[] = [];
  for (const [index, candidate] of candidates.entries()) {
    const share = owned[index];
    if (share === undefined) {
      runs.push(undefined);
      continue;
    }
    const names = trialGroups(index);
    const world = context.group(names.all);
    const own = weights.of(config, share);
    const transformer = new Transformer({
      config,
      share,
      weights: own,
      layers,
      world,
      heap,
      ownHeap,
      maxStepTokens: options.maxStepTokens,
      maxLogitRows: options.texts,
    });
    const sampler = new Sampler({
      layers,
      world,
      heap,
      vocabulary: share.vocabulary,
      vocabularySize: config.vocabularySize,
      maxRows: Math.max(1, options.texts),
      maxWholeRows: 0,
    });
    const attention = await openAttention(context.group(names.dcp), backend, heap, share, candidate, options);
    context.onClose(() => attention.close());
    const output = { layers, weights: own.output, hidden };
    runs.push(new TrialRun(options, world, transformer, sampler, attention, output));
  }

  return {
    identify: (): string => OWN_PROGRAM,

    /**
     * Times every candidate in turn, forwards and backwards, so that a busy moment meets all; a rank without a part in
     * one waits for the others at the next. Times of each candidate as rank 0 finds them.
     */
    async measure(rounds: number): Promise<TrialTimes[]> {
      const all = candidates.map((): TrialTimes => ({ steps: options.lengths.map(() => []), prompts: [] }));
      for (let round = 0; round < rounds; round++) {
        for (let turn = 0; turn < all.length; turn++) {
          const index = round % 2 === 0 ? turn : all.length - 1 - turn;
          await runs[index]?.turn(all[index] ?? { steps: [], prompts: [] }, round % ROUNDS_OF_A_PROMPT === 0);
        }
      }
      return all;
    },
  };
}

async function openAttention(
  dcpGroup: ProcessGroup,
  backend: { readonly attend: KernelBackend; readonly merge: KernelBackend },
  heap: SharedHeap,
  share: RankShare,
  { numBlocks, kvWeights, sizes }: TrialCandidate,
  { config, kvDtype, combine, blockSize, interleave, maxStepTokens }: TrialOptions,
): Promise<DcpAttention> {
  const attention = DcpAttention.open({
    ...modelAttention(config, share, sizes),
    backend: backend.attend,
    mergeBackend: backend.merge,
    heap,
    dcpGroup,
    kvDtype,
    blockSize,
    interleave,
    numBlocks,
    ...(kvWeights === undefined ? {} : { weights: kvWeights }),
    combine,
    maxStepQueries: maxStepTokens,
  });
  // What nobody has written is not read from memory.
  await eraseCaches(attention, backend.attend, { heap, layers: config.layers });
  return attention;
}

/** What makes logits of the last layer's output, in part. */
interface OutputProjection {
  readonly layers: Layers;
  readonly weights: Weight;
  /** Some rows of a layer's output. */
  readonly hidden: Tensor;
}

/** One way of spreading the model, on one rank. */
class TrialRun {
  readonly #options: TrialOptions;
  readonly #world: ProcessGroup;
  readonly #transformer: Transformer;
  readonly #sampler: Sampler;
  readonly #attention: DcpAttention;
  readonly #output: OutputProjection;
  readonly #step: StepAttention;
  readonly #texts: readonly StepTokens[];
  readonly #prompt: StepTokens;
  /** When attention of the first and of the last layer began. */
  #first = 0;
  #last = 0;

  constructor(
    options: TrialOptions,
    world: ProcessGroup,
    transformer: Transformer,
    sampler: Sampler,
    attention: DcpAttention,
    output: OutputProjection,
  ) {
    const { texts, promptTokens, config } = options;
    this.#options = options;
    this.#world = world;
    this.#transformer = transformer;
    this.#sampler = sampler;
    this.#attention = attention;
    this.#output = output;
    this.#texts = Array.from({ length: texts }, () => ({
      sequence: attention.createSequence(),
      ids: [0],
      logits: 1,
    }));
    const ids = new Array<number>(promptTokens).fill(0);
    this.#prompt = { sequence: attention.createSequence(), ids, logits: 1 };
    const step = decodeStep(attention);
    this.#step = {
      ...step,
      forward: (layer, query, key, value, out) => {
        if (layer === 0) this.#first = performance.now();
        if (layer === config.layers - 1) this.#last = performance.now();
        return step.forward(layer, query, key, value, out);
      },
    };
  }

  /** Some decode steps at each length and, if asked for, a step of a prompt. All ranks of the candidate together. */
  async turn({ steps, prompts }: TrialTimes, hasPrompt: boolean): Promise<void> {
    for (const [at, length] of this.#options.lengths.entries()) {
      for (let step = 0; step < STEPS_OF_A_TURN; step++) {
        for (const { sequence } of this.#texts) setSequenceLength(this.#attention, sequence, length);
        steps[at]?.push(await this.#time(this.#texts));
      }
    }
    if (!hasPrompt || this.#options.promptTokens === 0) return;
    setSequenceLength(this.#attention, this.#prompt.sequence, this.#options.promptStart);
    prompts.push(await this.#time([this.#prompt]));
  }

  /** Milliseconds that the whole model would take for a step. */
  async #time(items: readonly StepTokens[]): Promise<number> {
    this.#world.barrier();
    const started = performance.now();
    const logits = await this.#transformer.forward(this.#step, items);
    this.#sampler.choose(
      logits,
      items.map(() => GREEDY),
    );
    const taken = performance.now() - started;
    const { config, layers, vocabulary } = this.#options;
    return wholeStep(
      {
        step: taken,
        layers: this.#last - this.#first,
        output: vocabulary === config.vocabularySize ? 0 : this.#outputTime(logits),
      },
      { part: config.layers, whole: layers },
      { part: config.vocabularySize, whole: vocabulary },
    );
  }

  /** Milliseconds of the output projection alone. */
  #outputTime(logits: Tensor): number {
    const { layers, weights, hidden } = this.#output;
    const started = performance.now();
    layers.linear(hidden.slice(0, 0, logits.dim(0)), weights, logits);
    return performance.now() - started;
  }
}
