// The rank's side of the tests of the prefix cache: the same requests with blocks shared by content and from scratch.
import { DcpAttention, OutOfBlocks } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, type DType, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const LAYERS = 2;

/** What the caches are opened with. */
export interface PrefixShape {
  readonly heads: readonly [query: number, kv: number];
  readonly dims: readonly [key: number, value: number];
  readonly kvDtype: DType;
  readonly blockSize: number;
  readonly interleave: number;
  /** Of as many ranks as the largest world has; smaller ones take the first. */
  readonly weights?: readonly number[];
  readonly numBlocks: number;
  readonly window?: number;
  readonly hasSinks: boolean;
  readonly mla: boolean;
}

/** Tokens of a block over all ranks of a world of `size`. */
export function blockTokens({ blockSize, weights }: PrefixShape, size: number): number {
  return blockSize * (weights?.slice(0, size).reduce((sum, weight) => sum + weight, 0) ?? size);
}

/** A text that is computed in parts of `chunk` tokens, by prefill or not; a draft is forgotten after each part. */
export interface PrefixRequest {
  readonly ids: readonly number[];
  readonly chunk: number;
  readonly isPrefill: boolean;
  readonly draft: number;
}

/** What a rank found for a request: cached tokens, and the bits of output and LSE of the tokens that it computed. */
export interface PrefixResult {
  readonly cached: number;
  readonly bits: readonly (readonly number[])[];
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(() => mergeBackend.close());
  const scratch = new Arena(heap, 4 << 20);
  context.onClose(() => scratch.close());

  function open(shape: PrefixShape, prefixCache: boolean): { attention: DcpAttention; sinks: Tensor } {
    const { heads, dims, window, hasSinks, weights, ...cache } = shape;
    const sinks = Tensor.from(heap, "f32", [LAYERS, heads[0]], new RandomStream(7).normals(LAYERS * heads[0]));
    const attention = DcpAttention.open({
      ...cache,
      backend,
      mergeBackend,
      heap,
      dcpGroup: world,
      layers: LAYERS,
      queryHeads: heads[0],
      kvHeads: heads[1],
      headDim: dims[0],
      valueDim: dims[1],
      combine: "a2a",
      maxStepQueries: 1024,
      prefillChunk: 16,
      prefixCache,
      ...(window === undefined ? {} : { window }),
      ...(hasSinks ? { sinks } : {}),
      ...(weights === undefined ? {} : { weights: weights.slice(0, world.size) }),
    });
    return { attention, sinks };
  }

  /** Appends tokens to a sequence; returns the bits of each, on both layers. They follow from token and position. */
  async function append(
    attention: DcpAttention,
    { heads, dims, mla }: PrefixShape,
    sequence: number,
    ids: readonly number[],
    isPrefill: boolean,
  ): Promise<number[][]> {
    const own = headRange(heads[0], world.rank, world.size);
    const from = attention.sequenceLength(sequence);
    const item = { sequence, tokens: ids.length };
    if (isPrefill) attention.beginPrefill([item]);
    else attention.beginStep([item]);
    const bits = ids.map((): number[] => []);
    for (let layer = 0; layer < LAYERS; layer++) {
      const numbers = (count: number, dim: number, salt: number): Tensor => {
        const values = ids.flatMap((id, at) => [
          ...new RandomStream(100_000 * salt + 1000 * id + from + at).normals(count * dim),
        ]);
        return Tensor.from(scratch, "f32", [ids.length, count, dim], values);
      };
      const query = numbers(own.end, dims[0], layer).slice(1, own.start, own.end);
      const key = numbers(heads[1], dims[0], 2 + layer);
      const value = mla ? undefined : numbers(heads[1], dims[1], 4 + layer);
      const out = Tensor.empty(scratch, "f32", [ids.length, own.end - own.start, dims[1]]).fill(Number.NaN);
      const lse = Tensor.empty(scratch, "f32", out.shape.slice(0, 2)).fill(Number.NaN);
      if (isPrefill) await attention.prefill(layer, query, key, value, out, lse);
      else await attention.forward(layer, query, key, value, out, lse);
      for (const [row, of] of bits.entries()) {
        for (const tensor of [out, lse]) {
          const size = tensor.size / ids.length;
          of.push(
            ...new Int32Array(tensor.heap.buffer, tensor.byteOffset, tensor.size).subarray(
              row * size,
              (row + 1) * size,
            ),
          );
        }
      }
    }
    attention.endStep();
    scratch.reset();
    return bits;
  }

  return {
    /**
     * Serves requests one after the other; each leaves its prefix behind. The sequences of the last `live` ones stay.
     * @returns what was found for each, and the blocks that are free and known when all are freed
     */
    async serve(
      shape: PrefixShape,
      requests: readonly PrefixRequest[],
      prefixCache: boolean,
      live: number,
    ): Promise<{ results: PrefixResult[]; total: number; free: number; known: number }> {
      const { attention, sinks } = open(shape, prefixCache);
      try {
        const results: PrefixResult[] = [];
        const running: number[] = [];
        for (const { ids, chunk, isPrefill, draft } of requests) {
          if (running.length > live) attention.freeSequence(running.shift() ?? -1);
          const expected = prefixCache ? attention.knownPrefix(ids) : 0;
          const { sequence, cached } = prefixCache
            ? attention.createSequenceFrom(ids)
            : { sequence: attention.createSequence(), cached: 0 };
          if (cached !== expected) throw new Error(`knownPrefix said ${expected}, and ${cached} were found`);
          const bits: number[][] = [];
          while (cached + bits.length < ids.length) {
            const at = cached + bits.length;
            const part = ids.slice(at, at + chunk);
            const drafted = Array.from({ length: draft }, (_, index) => 90 + index);
            const found = await append(attention, shape, sequence, [...part, ...drafted], isPrefill);
            bits.push(...found.slice(0, part.length));
            attention.truncateSequence(sequence, at + part.length);
            if (prefixCache) attention.keepPrefix(sequence, ids.slice(0, at + part.length));
          }
          results.push({ cached, bits });
          running.push(sequence);
        }
        for (const sequence of running) attention.freeSequence(sequence);
        return { results, ...attention.blocks };
      } finally {
        attention.close();
        sinks.free();
      }
    },

    /**
     * A text that is known; then a sequence of it is cut back into a known block and goes on otherwise, once beside
     * another that holds the block and once alone, and once in a step that is cancelled.
     * @returns the bits of a token that is appended to what createSequenceFrom finds of the text, each time
     */
    async cutBack(shape: PrefixShape, ids: readonly number[]): Promise<{ cached: number; bits: number[] }[]> {
      const { attention, sinks } = open(shape, true);
      try {
        const found: { cached: number; bits: number[] }[] = [];
        const ask = async (): Promise<number> => {
          const { sequence, cached } = attention.createSequenceFrom([...ids, 0]);
          const bits = await append(attention, shape, sequence, [...ids.slice(cached), 0], false);
          attention.truncateSequence(sequence, ids.length);
          attention.keepPrefix(sequence, ids);
          found.push({ cached, bits: bits.at(-1) ?? [] });
          return sequence;
        };
        const other = await ask();
        const cut = attention.forkSequence(other);
        attention.truncateSequence(cut, 1);
        await append(attention, shape, cut, [7], false);
        attention.freeSequence(await ask());
        attention.truncateSequence(cut, 1);
        attention.beginStep([{ sequence: cut, tokens: 3 }]);
        attention.cancelStep();
        attention.freeSequence(await ask());
        attention.freeSequence(cut);
        attention.truncateSequence(other, ids.length - 1);
        attention.beginStep([{ sequence: other, tokens: 1 }]);
        attention.cancelStep();
        attention.freeSequence(await ask());
        attention.truncateSequence(other, 1);
        await append(attention, shape, other, [8], false);
        attention.freeSequence(await ask());
        attention.forgetPrefixes();
        attention.freeSequence(await ask());
        attention.useGroups({ dcpGroup: world });
        attention.freeSequence(await ask());
        return found;
      } finally {
        attention.close();
        sinks.free();
      }
    },

    /**
     * Stores a text, moves what is known of it to another attention, and computes the text's last token there.
     * @returns that token's bits, those of computing it where it was stored, and what is refused on the way
     */
    async moved(shape: PrefixShape, ids: readonly number[]) {
      const [from, to] = [open(shape, true), open(shape, true)];
      const refused: string[] = [];
      const attempt = (act: () => unknown): void => {
        try {
          act();
          refused.push("none");
        } catch (error) {
          refused.push((error as { _tag?: string })._tag ?? String(error));
        }
      };
      try {
        const first = from.attention.createSequence();
        const computed = await append(from.attention, shape, first, ids, false);
        from.attention.keepPrefix(first, ids);
        const saved = new Map<string, Uint8Array>();
        const exporting = from.attention.exportPrefixes((part, index, rows) => {
          saved.set(`${part.name} ${index}`, rows.bytes.slice());
        });
        await exporting;
        const list = from.attention.listPrefixes();
        const parts = from.attention.cacheParts.length;
        const give: Parameters<DcpAttention["importPrefixes"]>[1] = (part, index, rows) => {
          rows.bytes.set(saved.get(`${part.name} ${index}`) ?? []);
        };
        const failing = to.attention.importPrefixes(list, (_part, index) => {
          if (index === 1) throw new Error("unreadable");
        });
        await failing.catch((error: unknown) => refused.push(String(error)));
        const known = [to.attention.blocks.known];
        const cancelled = await to.attention.importPrefixes(list, give);
        attempt(() => to.attention.beginStep([]));
        attempt(() => to.attention.forgetPrefixes());
        attempt(() => to.attention.useGroups({}));
        cancelled.cancel();
        cancelled.commit();
        known.push(to.attention.blocks.known, to.attention.blocks.free);
        const pending = await to.attention.importPrefixes(list, give);
        pending.commit();
        known.push(to.attention.blocks.known, pending.blocks);
        const { sequence, cached } = to.attention.createSequenceFrom(ids);
        const bits = await append(to.attention, shape, sequence, ids.slice(cached), false);
        const isSameLayout = JSON.stringify(to.attention.cacheLayout) === JSON.stringify(from.attention.cacheLayout);
        for (const wrong of [[null], [{ parent: 0, tokens: [] }], [{ parent: -1, tokens: [1] }], 5]) {
          await to.attention
            .importPrefixes(wrong as never, give)
            .catch((error: unknown) => refused.push((error as { _tag?: string })._tag ?? String(error)));
        }
        return {
          cached,
          bits,
          computed: computed.slice(cached),
          known,
          refused,
          saved: saved.size / parts,
          isSameLayout,
        };
      } finally {
        for (const { attention, sinks } of [from, to]) {
          attention.close();
          sinks.free();
        }
      }
    },

    /** What is thrown without a prefix cache, in a step, and for bad arguments. */
    refusals(shape: PrefixShape): string[] {
      const tags: string[] = [];
      const attempt = (act: () => unknown): void => {
        try {
          act();
          tags.push("none");
        } catch (error) {
          tags.push((error as { _tag?: string })._tag ?? String(error));
        }
      };
      const without = open(shape, false);
      const plain = without.attention.createSequence();
      attempt(() => without.attention.createSequenceFrom([1]));
      attempt(() => without.attention.keepPrefix(plain, []));
      attempt(() => without.attention.knownPrefix([1]));
      attempt(() => without.attention.forgetPrefixes());
      without.attention.close();
      attempt(() => without.attention.blocks);
      without.sinks.free();
      const { attention, sinks } = open(shape, true);
      const sequence = attention.createSequence();
      attempt(() => attention.keepPrefix(sequence, [1]));
      attempt(() => attention.createSequenceFrom([-1]));
      attention.beginStep([{ sequence, tokens: 1 }]);
      attempt(() => attention.createSequenceFrom([1]));
      attempt(() => attention.keepPrefix(sequence, []));
      attention.cancelStep();
      attention.close();
      sinks.free();
      return tags;
    },

    /** Ranks that open with and without a prefix cache disagree. */
    disagree(shape: PrefixShape): string {
      try {
        const { attention, sinks } = open(shape, world.rank === 0);
        attention.close();
        sinks.free();
        return "none";
      } catch (error) {
        return (error as { _tag?: string })._tag ?? String(error);
      }
    },

    /** What a step says that needs more blocks than are free, known ones among them. */
    outOfBlocks(shape: PrefixShape): { needed: number; free: number; after: number } | undefined {
      const { attention, sinks } = open(shape, true);
      try {
        const sequence = attention.createSequence();
        const size = blockTokens(shape, world.size);
        attention.beginStep([{ sequence, tokens: size }]);
        attention.endStep();
        attention.keepPrefix(sequence, new Array<number>(size).fill(1));
        attention.freeSequence(sequence);
        const other = attention.createSequence();
        attention.beginStep([{ sequence: other, tokens: (shape.numBlocks + 1) * size }]);
        return undefined;
      } catch (error) {
        if (!(error instanceof OutOfBlocks)) throw error;
        return { needed: error.needed, free: error.free, after: attention.blocks.known };
      } finally {
        attention.close();
        sinks.free();
      }
    },
  };
}
