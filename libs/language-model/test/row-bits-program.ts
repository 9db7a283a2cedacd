// The rank's side of the test of logits' bits: a model that takes texts in steps of any kind.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { SharedHeap } from "@lockstep/tensor";
import { modelAttention } from "../src/generation/rank-attention.ts";
import { openRankBackend } from "../src/generation/rank-backend.ts";
import type { RankOptions } from "../src/generation/rank-options.ts";
import { Layers } from "../src/layers/layers.ts";
import { Checkpoint } from "../src/model/checkpoint.ts";
import { modelFolder } from "../src/model/model-files.ts";
import { decodeStep, prefillStep, type StepAttention } from "../src/model/step-attention.ts";
import { type RankShare, rankShare } from "../src/model/tensor-parallel.ts";
import { Transformer } from "../src/model/transformer.ts";
import { widestInput } from "../src/model/weight-parts.ts";
import { loadWeights } from "../src/model/weights.ts";
import { PlainAttention } from "./plain-attention.ts";

/** What one text brings to a step: its next `ids`, and `drafted` ones that are forgotten after it. */
export interface ModelItem {
  readonly text: number;
  readonly ids: readonly number[];
  readonly drafted: readonly number[];
}

/** Before it, text `fork.to` begins as text `fork.from`. */
export interface ModelStep {
  readonly fork?: { readonly from: number; readonly to: number };
  readonly isPrefill: boolean;
  readonly items: readonly ModelItem[];
}

/**
 * Digests of the bits of this rank's logits of a text's token. Those of all ranks add up, modulo 2^32, to the same
 * however the vocabulary is split over them.
 */
export type LogitBits = readonly [text: number, position: number, one: number, two: number];

/** What ranks of the test are told. */
export interface RowBitsOptions extends RankOptions {
  /** Attention as plain loops on every rank, so that the layers are what is seen. */
  readonly isPlain: boolean;
  /** Layers compute in a memory of each rank's own. */
  readonly hasOwnMemory: boolean;
}

/** What keeps texts, and attends. */
interface Texts
  extends Pick<
    DcpAttention,
    "createSequence" | "forkSequence" | "freeSequence" | "truncateSequence" | "sequenceLength"
  > {
  step(isPrefill: boolean): StepAttention;
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: RowBitsOptions) {
  const { config, sizes, maxStepTokens } = options;
  const { heap, world } = context;
  const share = rankShare(sizes, context.rank, config);
  const ownHeap = options.hasOwnMemory ? SharedHeap.create(64 << 20) : heap;
  const layers = Layers.open(ownHeap, { maxTokens: maxStepTokens, maxInputs: widestInput(config, share) });
  using checkpoint = Checkpoint.open(modelFolder("test", options.model), config);
  const weights = loadWeights(checkpoint, config, share, layers, ownHeap, { weights: options.weights });
  const shapes = { maxStepTokens, maxLogitRows: maxStepTokens };
  const transformer = new Transformer({ config, share, weights, layers, world, heap, ownHeap, ...shapes });
  const attention = options.isPlain ? new PlainAttention(config, share) : await openDcp(context, options, share);

  return {
    /** Takes texts through steps; returns what every token's logits were. */
    async run(texts: number, steps: readonly ModelStep[]): Promise<LogitBits[]> {
      const sequences = Array.from({ length: texts }, () => attention.createSequence());
      const found: LogitBits[] = [];
      for (const { fork, isPrefill, items } of steps) {
        if (fork !== undefined) {
          attention.freeSequence(sequences[fork.to] ?? -1);
          sequences[fork.to] = attention.forkSequence(sequences[fork.from] ?? -1);
        }
        if (items.length === 0) continue;
        const lengths = items.map(({ text }) => attention.sequenceLength(sequences[text] ?? -1));
        const brought = items.map(({ text, ids, drafted }) => {
          const all = [...ids, ...drafted];
          return { sequence: sequences[text] ?? -1, ids: all, logits: all.length };
        });
        const logits = await transformer.forward(attention.step(isPrefill), brought);
        let row = 0;
        for (const [index, { text, ids, drafted }] of items.entries()) {
          const before = lengths[index] ?? 0;
          for (let at = 0; at < ids.length; at++) {
            const digests = digest(logits.select(0, row++).f32, share.vocabulary.start);
            found.push([text, before + at, ...digests]);
          }
          row += drafted.length;
          if (drafted.length > 0) attention.truncateSequence(sequences[text] ?? -1, before + ids.length);
        }
      }
      for (const sequence of sequences) attention.freeSequence(sequence);
      return found;
    },
  };
}

async function openDcp(context: RankContext, options: RankOptions, share: RankShare): Promise<Texts> {
  const { config, maxStepTokens, blockSize, interleave, numBlocks, kvWeights, combine, prefillChunk } = options;
  const { heap } = context;
  const backend = await openRankBackend(context, options, () => heap);
  const attention = DcpAttention.open({
    ...modelAttention(config, share, options.sizes),
    backend: backend.attend,
    mergeBackend: backend.merge,
    heap,
    dcpGroup: context.group("dcp"),
    kvDtype: options.kvDtype,
    blockSize,
    interleave,
    numBlocks,
    ...(kvWeights === undefined ? {} : { weights: kvWeights }),
    combine,
    maxStepQueries: maxStepTokens,
    ...(prefillChunk === undefined ? {} : { prefillChunk }),
  });
  context.onClose(() => attention.close());
  return {
    createSequence: () => attention.createSequence(),
    forkSequence: (sequence) => attention.forkSequence(sequence),
    freeSequence: (sequence) => attention.freeSequence(sequence),
    truncateSequence: (sequence, length) => attention.truncateSequence(sequence, length),
    sequenceLength: (sequence) => attention.sequenceLength(sequence),
    step: (isPrefill) => (isPrefill ? prefillStep(attention) : decodeStep(attention)),
  };
}

/** Two sums over words, each mixed with its place in the vocabulary, from `first` on. */
function digest(numbers: Float32Array, first: number): readonly [number, number] {
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  let [one, two] = [0, 0];
  for (const [at, word] of words.entries()) {
    let mixed = Math.imul(word ^ Math.imul(first + at + 1, 0x9e3779b1), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35);
    one = (one + (mixed ^ (mixed >>> 13))) >>> 0;
    two = (two + Math.imul(mixed ^ (mixed >>> 16), 0x27d4eb2f)) >>> 0;
  }
  return [one, two];
}
