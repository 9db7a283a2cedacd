// The rank's side of the tests of unequal shares: what weights of 1 are, what fits, and what is refused.
import { DcpAttention, type DcpAttentionOptions, OutOfBlocks } from "@lockstep/attention";
import type { CacheLayout } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { LockstepError, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";

const HEADS = 3;
const DIM = 4;

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext) {
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const own = headRange(HEADS, world.rank, world.size);
  const before = heap.usedBytes;
  const open = (options: Partial<DcpAttentionOptions>): DcpAttention =>
    DcpAttention.open({
      backend,
      heap,
      dcpGroup: world,
      layers: 1,
      queryHeads: HEADS,
      kvHeads: 1,
      headDim: DIM,
      kvDtype: "f32",
      blockSize: 4,
      numBlocks: 30,
      combine: "a2a",
      prefillChunk: 8,
      prefixCache: true,
      ...options,
    });
  /** Rows [from, to) of a text. */
  const rows = (from: number, to: number, heads: number, salt: number): Tensor => {
    const numbers = Array.from({ length: to - from }, (_, at) => [
      ...new RandomStream(1000 * salt + from + at).normals(heads * DIM),
    ]);
    return Tensor.from(heap, "f32", [to - from, heads, DIM], numbers.flat());
  };

  /** Appends tokens of a text to a sequence; returns the bits of what this rank's heads found. */
  async function append(attention: DcpAttention, sequence: number, tokens: number, isPrefill: boolean) {
    const from = attention.sequenceLength(sequence);
    const to = from + tokens;
    if (isPrefill) attention.beginPrefill([{ sequence, tokens }]);
    else attention.beginStep([{ sequence, tokens }]);
    const tensors = [rows(from, to, HEADS, 1), rows(from, to, 1, 2), rows(from, to, 1, 3)] as const;
    const [query, key, value] = tensors;
    const out = Tensor.empty(heap, "f32", [tokens, own.end - own.start, DIM]).fill(Number.NaN);
    const mine = query.slice(1, own.start, own.end);
    if (isPrefill) await attention.prefill(0, mine, key, value, out);
    else await attention.forward(0, mine, key, value, out);
    attention.endStep();
    const bits = [...new Int32Array(out.heap.buffer, out.byteOffset, out.size)];
    for (const tensor of [...tensors, out]) tensor.free();
    return bits;
  }

  return {
    /** A text by prefill and decode with equal weights, and with as many times the interleave and block size. */
    async equal(weights: readonly number[]): Promise<{ layouts: CacheLayout[]; bits: number[][] }> {
      const times = weights[0] ?? 1;
      const layouts: CacheLayout[] = [];
      const bits: number[][] = [];
      for (const options of [
        { weights, interleave: 2 },
        { interleave: 2 * times, blockSize: 4 * times },
      ]) {
        const attention = open(options);
        const sequence = attention.createSequence();
        const found: number[] = [];
        for (const [at, tokens] of [37, 9, 1, 1, 5].entries()) {
          found.push(...(await append(attention, sequence, tokens, at < 2)));
        }
        layouts.push(attention.cacheLayout);
        bits.push(found);
        attention.close();
      }
      return { layouts, bits };
    },

    /** One text, a token at a time, until there is no block for the next. */
    async fill(weights: readonly number[], numBlocks: number, blockSize: number) {
      const attention = open({ weights, numBlocks, blockSize });
      const sequence = attention.createSequence();
      let needed: { needed: number; free: number } | undefined;
      while (needed === undefined) {
        try {
          await append(attention, sequence, 1, false);
        } catch (error) {
          if (!(error instanceof OutOfBlocks)) throw error;
          needed = { needed: error.needed, free: error.free };
        }
      }
      const { tokensHeld, bytesHeld } = attention.metrics;
      const tokens = attention.sequenceLength(sequence);
      const shape = [...attention.keyCache(0).shape];
      attention.close();
      return { tokens, needed, held: tokensHeld, bytes: bytesHeld, shape };
    },

    /** A text of 25 tokens of which the full blocks move to another attention; its last token's bits, here and there. */
    async moved(weights: readonly number[]) {
      const ids = Array.from({ length: 25 }, (_, at) => at);
      const [from, to] = [open({ weights }), open({ weights })];
      const first = from.createSequence();
      await append(from, first, 24, false);
      const bits = [await append(from, first, 1, false)];
      from.keepPrefix(first, ids);
      const saved = new Map<string, Uint8Array>();
      await from.exportPrefixes((part, index, tensor) => {
        saved.set(`${part.name} ${index}`, tensor.bytes.slice());
      });
      const pending = await to.importPrefixes(from.listPrefixes(), (part, index, tensor) => {
        tensor.bytes.set(saved.get(`${part.name} ${index}`) ?? []);
      });
      pending.commit();
      const { sequence, cached } = to.createSequenceFrom(ids);
      bits.push(await append(to, sequence, 1, false));
      const parts = to.cacheParts.length;
      for (const attention of [from, to]) attention.close();
      return { cached, blocks: pending.blocks, bits, parts };
    },

    /** What opening with each rank's own weights says. */
    refused(weightsOfRanks: readonly (readonly number[])[], blockSize = 4): string {
      const weights = weightsOfRanks[world.rank] ?? [];
      try {
        open({ weights, blockSize }).close();
      } catch (error) {
        if (heap.usedBytes !== before) return "something stayed allocated";
        return error instanceof LockstepError ? `${error._tag}: ${error.message}` : String(error);
      }
      return "nothing";
    },
  };
}
