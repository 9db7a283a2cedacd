// The rank's side of the tests of saved prefixes: a model that computes texts, and saves and loads what it knows.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { loadPrefixes, type PrefixStore, savePrefixes } from "../src/engine/prefix-store.ts";
import { Sha256 } from "../src/engine/sha256.ts";
import { modelAttention } from "../src/generation/rank-attention.ts";
import type { RankOptions } from "../src/generation/rank-options.ts";
import { Layers } from "../src/layers/layers.ts";
import { Checkpoint } from "../src/model/checkpoint.ts";
import { modelFolder } from "../src/model/model-files.ts";
import { decodeStep } from "../src/model/step-attention.ts";
import { rankShare } from "../src/model/tensor-parallel.ts";
import { Transformer } from "../src/model/transformer.ts";
import { widestInput } from "../src/model/weight-parts.ts";
import { loadWeights } from "../src/model/weights.ts";

/** Where prefixes are, and whose they are. */
export interface StorePlace {
  readonly folder: string;
  readonly checkpoint: string;
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: RankOptions) {
  const { config, sizes, maxStepTokens, blockSize, interleave, numBlocks, weights: kind } = options;
  const { heap, world } = context;
  const share = rankShare(sizes, context.rank, config);
  const layers = Layers.open(heap, { maxTokens: maxStepTokens, maxInputs: widestInput(config, share) });
  using checkpoint = Checkpoint.open(modelFolder("test", options.model), config);
  const weights = loadWeights(checkpoint, config, share, layers, heap, { weights: kind });
  const shapes = { maxStepTokens, maxLogitRows: maxStepTokens };
  const transformer = new Transformer({ config, share, weights, layers, world, heap, ownHeap: heap, ...shapes });
  const backend = await openBackend("wasm", { heap });
  context.onClose(() => backend.close());
  const attention = DcpAttention.open({
    ...modelAttention(config, share, sizes),
    backend,
    heap,
    dcpGroup: context.group("dcp"),
    kvDtype: options.kvDtype,
    blockSize,
    interleave,
    numBlocks,
    maxStepQueries: maxStepTokens,
    prefixCache: true,
    ...(options.kvWeights === undefined ? {} : { weights: options.kvWeights }),
  });
  context.onClose(() => attention.close());
  const storeAt = ({ folder, checkpoint: name }: StorePlace): PrefixStore => {
    const computed = { weights: kind, backend: backend.name };
    const firstKvHead = share.kvHeads.start;
    return { attention, group: world, heap, folder, checkpoint: name, firstKvHead, computed };
  };

  return {
    /** Computes what is not known of a text; how many tokens were, and digests of the logits of the others. */
    async compute(ids: readonly number[]): Promise<{ cached: number; logits: string[] }> {
      const { sequence, cached } = attention.createSequenceFrom(ids);
      const logits: string[] = [];
      for (let at = cached; at < ids.length; at += maxStepTokens) {
        const part = ids.slice(at, at + maxStepTokens);
        const rows = await transformer.forward(decodeStep(attention), [{ sequence, ids: part, logits: part.length }]);
        for (const row of part.keys()) logits.push(new Sha256("logits").add(rows.select(0, row).bytes).hex());
      }
      attention.keepPrefix(sequence, ids);
      attention.freeSequence(sequence);
      return { cached, logits };
    },

    /** Digests of what this rank stores of known blocks, by part and by the text up to the block's end. */
    async stored(): Promise<Record<string, string>> {
      const texts: string[] = [];
      for (const { parent, tokens } of attention.listPrefixes()) {
        texts.push(`${texts[parent] ?? ""} ${tokens.join(" ")}`);
      }
      const found: Record<string, string> = {};
      await attention.exportPrefixes((part, index, rows) => {
        found[`${part.name}:${texts[index]}`] = new Sha256("rows").add(rows.bytes).hex();
      });
      return found;
    },

    /** Tokens of a text that were known, and this rank's logits after its last token. */
    async last(ids: readonly number[]): Promise<{ cached: number; logits: number[] }> {
      const { sequence, cached } = attention.createSequenceFrom(ids);
      let logits: number[] = [];
      for (let at = cached; at < ids.length; at += maxStepTokens) {
        const part = ids.slice(at, at + maxStepTokens);
        const rows = await transformer.forward(decodeStep(attention), [{ sequence, ids: part, logits: 1 }]);
        logits = [...rows.select(0, 0).toNumbers()];
      }
      attention.freeSequence(sequence);
      return { cached, logits };
    },

    known: (): number => attention.blocks.known,

    forget: (): void => attention.forgetPrefixes(),

    save: (place: StorePlace, id: string) => savePrefixes(storeAt(place), id),

    load: (place: StorePlace) => loadPrefixes(storeAt(place)),

    /** The error of each rank, rather than the first one's. */
    async refused(place: StorePlace): Promise<{ reason: string; message: string }> {
      try {
        await loadPrefixes(storeAt(place));
        return { reason: "none", message: "" };
      } catch (error) {
        const { reason = String(error), message } = error as { reason?: string; message: string };
        return { reason, message };
      }
    },
  };
}
