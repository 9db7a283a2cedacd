// The rank's side of the tests of rows' bits: texts whose queries, keys and values follow from their tokens, in steps
// of any kind.
import { DcpAttention, type DcpAttentionOptions } from "@lockstep/attention";
import { type Determinism, headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type Allocator, Arena, type DType, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { tokensOfTurns } from "./attention-program.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const LAYERS = 2;

/** What the caches are opened with. */
export interface RowBitsShape {
  readonly heads: readonly [query: number, kv: number];
  readonly dims: readonly [key: number, value: number];
  readonly kvDtype: DType;
  readonly blockSize: number;
  readonly interleave: number;
  readonly weights?: readonly number[];
  readonly window?: number;
  readonly softcap?: number;
  readonly hasSinks: boolean;
  readonly deterministic?: Determinism;
}

/** What one text brings to a step: `count` tokens of it, and `junk` that is forgotten after the step. */
export interface RowBitsItem {
  readonly text: number;
  readonly count: number;
  readonly junk?: number;
}

/** Before the items are appended, text `fork.to` begins as text `fork.from`, of which it has the stored tokens. */
export interface RowBitsStep {
  readonly fork?: { readonly from: number; readonly to: number };
  readonly isPrefill: boolean;
  /** Its tokens are stored, and attend to nothing. */
  readonly isSilent?: boolean;
  readonly items: readonly RowBitsItem[];
}

/** How the same steps may be run. */
export interface RowBitsRun {
  readonly prefillChunk: number;
  readonly combine: DcpAttentionOptions["combine"] & string;
  /** Every rank brings some of a prefill's tokens. */
  readonly hasPcp: boolean;
}

/** Bits of output and LSE of a text's token, on both layers, of this rank's heads. */
export type RowBits = readonly [text: number, position: number, bits: readonly number[]];

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = backend.isSynchronous ? backend : await openBackend("wasm", { heap });
  if (mergeBackend !== backend) context.onClose(() => mergeBackend.close());

  return {
    /** Appends texts in steps; returns what this rank found for each of their tokens. */
    async run(
      shape: RowBitsShape,
      texts: readonly (readonly number[])[],
      steps: readonly RowBitsStep[],
      { prefillChunk, combine, hasPcp }: RowBitsRun,
    ): Promise<RowBits[]> {
      const { heads, dims, window, softcap, hasSinks, ...cache } = shape;
      const own = headRange(heads[0], world.rank, world.size);
      const blockTokens = cache.blockSize * tokensOfTurns(cache, world);
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
        numBlocks: 6 + Math.ceil((texts.length * (6 + (texts[0]?.length ?? 0))) / blockTokens) * 2,
        combine: cache.deterministic === "world-invariant" && combine === "one-shot" ? "a2a" : combine,
        prefillChunk,
        ...(window === undefined ? {} : { window }),
        ...(softcap === undefined ? {} : { softcap }),
        ...(hasSinks ? { sinks } : {}),
        ...(hasPcp ? { pcpGroup: world } : {}),
      });
      const scratch = new Arena(heap, 12 << 20);
      try {
        const sequences = texts.map(() => attention.createSequence());
        const found: RowBits[] = [];
        for (const { fork, isPrefill, isSilent = false, items } of steps) {
          if (fork !== undefined) {
            attention.freeSequence(sequences[fork.to] ?? -1);
            sequences[fork.to] = attention.forkSequence(sequences[fork.from] ?? -1);
          }
          const ways = { isPrefill, isSilent };
          found.push(...(await append(attention, sequences, texts, items, ways, scratch, dims, heads, own)));
          scratch.reset();
        }
        return found;
      } finally {
        scratch.close();
        attention.close();
        sinks.free();
      }
    },
  };

  async function append(
    attention: DcpAttention,
    sequences: readonly number[],
    texts: readonly (readonly number[])[],
    items: readonly RowBitsItem[],
    { isPrefill, isSilent }: { readonly isPrefill: boolean; readonly isSilent: boolean },
    scratch: Allocator,
    [keyDim, valueDim]: readonly [number, number],
    [, kvHeads]: readonly [number, number],
    own: { readonly start: number; readonly end: number },
  ): Promise<RowBits[]> {
    const tokens = items.flatMap(({ text, count, junk = 0 }) => {
      const length = attention.sequenceLength(sequences[text] ?? -1);
      return Array.from({ length: count + junk }, (_, index) => {
        const isJunk = index >= count;
        return { text, isJunk, position: length + index, id: isJunk ? 99 : (texts[text]?.[length + index] ?? -1) };
      });
    });
    const brought = items.map(({ text, count, junk = 0 }) => {
      return { sequence: sequences[text] ?? -1, tokens: count + junk, ...(isSilent ? { queries: 0 } : {}) };
    });
    const begin = (): ArrayLike<number> => {
      if (isPrefill) return attention.beginPrefill(brought).rows;
      attention.beginStep(brought);
      return tokens.keys().toArray();
    };
    const mine = Array.from(begin(), (row) => tokens[row] ?? NOBODY);
    const bits = mine.map((): number[] => []);
    for (let layer = 0; layer < LAYERS; layer++) {
      const numbers = (heads: number, dim: number, salt: number): Tensor => {
        const values = mine.flatMap(({ id, position }) => [
          ...new RandomStream(100_000 * salt + 1000 * id + position).normals(heads * dim),
        ]);
        return Tensor.from(scratch, "f32", [mine.length, heads, dim], values);
      };
      // Those before this rank's own are other ranks'.
      const query = numbers(own.end, keyDim, layer).slice(1, own.start, own.end);
      const [key, value] = [numbers(kvHeads, keyDim, 2 + layer), numbers(kvHeads, valueDim, 4 + layer)];
      if (isSilent) {
        await attention.write(layer, key, value);
        continue;
      }
      const out = Tensor.empty(scratch, "f32", [mine.length, own.end - own.start, valueDim]).fill(Number.NaN);
      const lse = Tensor.empty(scratch, "f32", out.shape.slice(0, 2)).fill(Number.NaN);
      if (isPrefill) await attention.prefill(layer, query, key, value, out, lse);
      else await attention.forward(layer, query, key, value, out, lse);
      const words = (tensor: Tensor): Int32Array => new Int32Array(tensor.heap.buffer, tensor.byteOffset, tensor.size);
      for (const [row, of] of bits.entries()) {
        for (const tensor of [out, lse]) {
          const size = tensor.size / mine.length;
          of.push(...words(tensor).subarray(row * size, (row + 1) * size));
        }
      }
    }
    attention.endStep();
    for (const { text, junk = 0 } of items) {
      const sequence = sequences[text] ?? -1;
      if (junk > 0) attention.truncateSequence(sequence, attention.sequenceLength(sequence) - junk);
    }
    return mine.flatMap(({ text, position, isJunk }, row): RowBits[] => {
      return isJunk || isSilent ? [] : [[text, position, bits[row] ?? []]];
    });
  }
}

const NOBODY = { text: -1, isJunk: true, position: -1, id: -1 };
