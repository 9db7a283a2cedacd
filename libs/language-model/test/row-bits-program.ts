// The rank's side of the test of logits' bits: a model that takes texts in steps of any kind.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { modelAttention } from "../src/generation/rank-attention.ts";
import { openRankBackend } from "../src/generation/rank-backend.ts";
import type { RankOptions } from "../src/generation/rank-options.ts";
import { Layers } from "../src/layers/layers.ts";
import { Checkpoint } from "../src/model/checkpoint.ts";
import { modelFolder } from "../src/model/model-files.ts";
import { decodeStep, prefillStep } from "../src/model/step-attention.ts";
import { rankShare } from "../src/model/tensor-parallel.ts";
import { Transformer } from "../src/model/transformer.ts";
import { widestInput } from "../src/model/weight-parts.ts";
import { loadWeights } from "../src/model/weights.ts";

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

/** A digest of the bits of this rank's logits of a text's token. */
export type LogitBits = readonly [text: number, position: number, digest: number];

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: RankOptions) {
  const { config, sizes, maxStepTokens, blockSize, interleave, numBlocks, combine, prefillChunk } = options;
  const { heap, world } = context;
  const share = rankShare(sizes, context.rank, config);
  const layers = Layers.open(heap, { maxTokens: maxStepTokens, maxInputs: widestInput(config, share) });
  using checkpoint = Checkpoint.open(modelFolder("test", options.model), config);
  const weights = loadWeights(checkpoint, config, share, layers, heap, { weights: options.weights });
  const shapes = { maxStepTokens, maxLogitRows: maxStepTokens };
  const transformer = new Transformer({ config, share, weights, layers, world, heap, ownHeap: heap, ...shapes });
  const backend = await openRankBackend(context, options, () => heap);
  const attention = DcpAttention.open({
    ...modelAttention(config, share),
    backend: backend.attend,
    mergeBackend: backend.merge,
    heap,
    dcpGroup: context.group("dcp"),
    kvDtype: options.kvDtype,
    blockSize,
    interleave,
    numBlocks,
    combine,
    maxStepQueries: maxStepTokens,
    ...(prefillChunk === undefined ? {} : { prefillChunk }),
  });
  context.onClose(() => attention.close());

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
        const step = isPrefill ? prefillStep(attention) : decodeStep(attention);
        const logits = await transformer.forward(step, brought);
        let row = 0;
        for (const [index, { text, ids, drafted }] of items.entries()) {
          const before = lengths[index] ?? 0;
          for (let at = 0; at < ids.length; at++) found.push([text, before + at, digest(logits.select(0, row++).f32)]);
          row += drafted.length;
          if (drafted.length > 0) attention.truncateSequence(sequences[text] ?? -1, before + ids.length);
        }
      }
      for (const sequence of sequences) attention.freeSequence(sequence);
      return found;
    },
  };
}

/** FNV-1a over the words of numbers, twice. */
function digest(numbers: Float32Array): number {
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  let [one, two] = [0x811c9dc5, 0x01000193];
  for (const word of words) {
    one = Math.imul(one ^ word, 0x01000193) >>> 0;
    two = Math.imul(two ^ (word >>> 13), 0x85ebca6b) >>> 0;
  }
  return one * 2 ** 20 + (two >>> 12);
}
