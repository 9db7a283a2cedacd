// The rank's side of the tests of forked sequences: the same steps with sequences that share blocks and with ones that
// do not.
import { DcpAttention, OutOfBlocks } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const LAYERS = 2;
const [HEADS, KV_HEADS, KEY_DIM, VALUE_DIM] = [4, 2, 7, 5];

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world, onClose } = context;
  const backend = await openTestBackend(context, options.backend);
  const { start, end } = headRange(HEADS, world.rank, world.size);

  const open = (kvDtype: DType, numBlocks: number): DcpAttention =>
    DcpAttention.open({
      backend,
      ...(backend.name === "webgpu" ? { mergeBackend: reference } : {}),
      heap,
      dcpGroup: world,
      layers: LAYERS,
      queryHeads: HEADS,
      kvHeads: KV_HEADS,
      headDim: KEY_DIM,
      valueDim: VALUE_DIM,
      kvDtype,
      // int8 has a scale a token.
      ...(kvDtype === "f8e4m3" ? { kvScales: { key: 0.02, value: [0.01, 0.02] } } : {}),
      blockSize: 4,
      interleave: 2,
      numBlocks,
    });
  const reference = await openBackend("reference", { heap });
  onClose(() => reference.close());

  /** Token number t of a text named by `seed`: the same numbers whoever stores it. */
  function tokenRows(
    tokens: readonly (readonly [seed: number, token: number])[],
    heads: number,
    dim: number,
    salt: number,
  ) {
    const numbers = tokens.flatMap(([seed, token]) => [
      ...new RandomStream(1000 * seed + 10 * token + salt).normals(heads * dim),
    ]);
    return Tensor.from(heap, "f32", [tokens.length, heads, dim], numbers);
  }

  /** Appends tokens to sequences on every layer; returns this rank's attention of the new tokens, both layers. */
  async function append(
    attention: DcpAttention,
    items: readonly { sequence: number; tokens: readonly (readonly [seed: number, token: number])[] }[],
  ): Promise<number[]> {
    const tokens = items.flatMap((item) => item.tokens);
    attention.beginStep(items.map(({ sequence, tokens: { length } }) => ({ sequence, tokens: length })));
    const results: number[] = [];
    for (let layer = 0; layer < LAYERS; layer++) {
      const query = tokenRows(tokens, HEADS, KEY_DIM, layer).slice(1, start, end);
      const key = tokenRows(tokens, KV_HEADS, KEY_DIM, 2 + layer);
      const value = tokenRows(tokens, KV_HEADS, VALUE_DIM, 4 + layer);
      const out = Tensor.empty(heap, "f32", [tokens.length, end - start, VALUE_DIM]);
      await attention.forward(layer, query, key, value, out);
      results.push(...out.toNumbers());
    }
    attention.endStep();
    return results;
  }

  const text = (seed: number, from: number, to: number) =>
    Array.from({ length: to - from }, (_, index) => [seed, from + index] as const);

  return {
    /**
     * A prompt of 13 tokens, forked twice, each of the three continued; then one is forked again, cut back and
     * continued. With `shared` by forks, else by storing every text anew.
     */
    async forked(kvDtype: DType, shared: boolean): Promise<{ results: number[]; blocks: number }> {
      const attention = open(kvDtype, 40);
      const results: number[] = [];
      const stored = async (): Promise<number> => {
        const sequence = attention.createSequence();
        await append(attention, [{ sequence, tokens: text(1, 0, 13) }]);
        return sequence;
      };
      const a = await stored();
      const b = shared ? attention.forkSequence(a) : await stored();
      const c = shared ? attention.forkSequence(a) : await stored();
      const blockBytes = attention.metrics.bytesHeld;
      results.push(
        ...(await append(attention, [
          { sequence: c, tokens: text(4, 13, 15) },
          { sequence: a, tokens: text(2, 13, 14) },
          { sequence: b, tokens: text(3, 13, 30) },
        ])),
      );
      let d: number;
      if (shared) d = attention.forkSequence(b);
      else {
        d = await stored();
        await append(attention, [{ sequence: d, tokens: text(3, 13, 30) }]);
      }
      attention.truncateSequence(d, 21);
      results.push(...(await append(attention, [{ sequence: d, tokens: text(5, 21, 23) }])));
      attention.freeSequence(a);
      for (const sequence of [b, c, d]) {
        const from = attention.sequenceLength(sequence);
        results.push(...(await append(attention, [{ sequence, tokens: text(6, from, from + 3) }])));
      }
      attention.close();
      return { results, blocks: blockBytes };
    },

    /** A fork that finds no block for its copy is refused, and both sequences read what they read before. */
    async outOfBlocks(): Promise<{ tag: string; kept: boolean }> {
      const attention = open("f32", 1);
      const sequence = attention.createSequence();
      await append(attention, [{ sequence, tokens: text(1, 0, 1) }]);
      const fork = attention.forkSequence(sequence);
      const read = async (): Promise<string> => {
        const results: number[] = [];
        for (const id of [sequence, fork]) {
          attention.beginStep([{ sequence: id, tokens: 0, queries: 1 }]);
          const out = Tensor.empty(heap, "f32", [1, end - start, VALUE_DIM]);
          await attention.attend(0, tokenRows([[9, 0]], HEADS, KEY_DIM, 0).slice(1, start, end), out);
          results.push(...out.toNumbers());
          attention.endStep();
        }
        return results.join();
      };
      const before = await read();
      let tag = "none";
      try {
        attention.beginStep([{ sequence: fork, tokens: 1 }]);
      } catch (error) {
        if (error instanceof OutOfBlocks) tag = error._tag;
      }
      const kept = (await read()) === before && attention.sequenceLength(fork) === 1;
      attention.close();
      return { tag, kept };
    },

    /** A cancelled step gives its copies back. */
    async cancelled(): Promise<{ blocksBefore: number; blocksAfter: number }> {
      const attention = open("f32", 8);
      const sequence = attention.createSequence();
      await append(attention, [{ sequence, tokens: text(1, 0, 3) }]);
      const fork = attention.forkSequence(sequence);
      const blocksBefore = attention.metrics.bytesHeld;
      attention.beginStep([{ sequence: fork, tokens: 20 }]);
      attention.cancelStep();
      const blocksAfter = attention.metrics.bytesHeld;
      attention.close();
      return { blocksBefore, blocksAfter };
    },
  };
}
