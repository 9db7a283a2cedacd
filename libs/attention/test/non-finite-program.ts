// The rank's side of the tests that damaged keys and values show, wherever they are stored.
import { type Combine, DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, type DType, LockstepError, Tensor } from "@lockstep/tensor";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

export const HEAD_DIM = 4;
export const VALUE_DIM = 3;

/** One number in the key or value of one token that is not finite. */
export interface Damage {
  readonly place: "key" | "value";
  readonly token: number;
  readonly column: number;
  readonly value: number;
  /** Keys that make the damaged token's weight 0 in f32. */
  readonly faint: boolean;
}

export interface DamagedCase {
  readonly tokens: number;
  readonly damage: Damage;
  readonly combine: Combine;
  readonly kvDtype: DType;
  /** Scales of f8e4m3: one a token, or 1. */
  readonly perToken: boolean;
  readonly window?: number;
  /** All tokens in one prefill of this chunk size; else one step a token. */
  readonly prefillChunk?: number;
  readonly partialDtype?: "bf16";
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { readonly backend: TestBackend }) {
  const { heap, world, onClose, rank } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = await openBackend("wasm", { heap });
  onClose(() => mergeBackend.close());
  const arena = new Arena(heap, 1 << 20);

  return {
    /**
     * Five tokens in an int8 cache, then a step whose last token brings `value`, then the first five again: what the
     * step and its end said, and whether what was stored is still there.
     */
    async refusedByInt8(
      place: "key" | "value",
      value: number,
      prefill: "none" | "alone" | "shared",
      perToken: boolean,
    ) {
      arena.reset();
      const queryHeads = 2 * world.size;
      const attention = DcpAttention.open({
        backend,
        ...(backend.name === "webgpu" ? { mergeBackend } : {}),
        heap,
        dcpGroup: world,
        layers: 2,
        queryHeads,
        kvHeads: 2,
        headDim: HEAD_DIM,
        kvDtype: "i8",
        kvScales: perToken ? "per-token" : { key: 0.01, value: 0.01 },
        blockSize: 2,
        numBlocks: 16,
        ...(prefill === "none" ? {} : { prefillChunk: 4 }),
        ...(prefill === "shared" ? { pcpGroup: world, queryGroup: world } : {}),
      });
      const rows = (tokens: number, heads: number): Tensor => {
        const tensor = Tensor.empty(arena, "f32", [tokens, heads, HEAD_DIM]);
        return tensor.set(Float64Array.from({ length: tensor.size }, (_, at) => Math.fround(Math.sin(at))));
      };
      const ask = async (): Promise<number[]> => {
        const out = rows(5, 2);
        attention.beginStep([{ sequence, tokens: 0, queries: 5 }]);
        for (let layer = 0; layer < 2; layer++) await attention.attend(layer, rows(5, 2), out);
        attention.endStep();
        return [...out.toNumbers()];
      };
      const tagOf = (error: unknown): string => (error instanceof LockstepError ? error._tag : String(error));
      const sequence = attention.createSequence();
      try {
        attention.beginStep([{ sequence, tokens: 5, queries: 0 }]);
        for (let layer = 0; layer < 2; layer++) await attention.write(layer, rows(5, 2), rows(5, 2));
        attention.endStep();
        const before = await ask();
        const mine = prefill === "none" ? 3 : attention.beginPrefill([{ sequence, tokens: 20 }]).rows.length;
        if (prefill === "none") attention.beginStep([{ sequence, tokens: 3 }]);
        const damaged = { key: rows(mine, 2), value: rows(mine, 2) };
        // Of a prefill that ranks share, one rank brings it.
        const brings = prefill !== "shared" || rank === Math.min(1, world.size - 1);
        if (brings && mine > 0)
          damaged[place]
            .select(0, mine - 1)
            .select(0, 1)
            .slice(0, 2, 3)
            .fill(value);
        const [key, values] = [damaged.key, damaged.value];
        const said: string[] = [];
        for (let layer = 0; layer < 2; layer++) {
          const [query, out] = [rows(mine, 2), rows(mine, 2)];
          const step = prefill === "none" ? attention.forward.bind(attention) : attention.prefill.bind(attention);
          // Layer 0 is whole.
          const bad = layer === 1;
          await step(layer, query, bad ? key : rows(mine, 2), bad ? values : rows(mine, 2), out).catch(
            (error: unknown) => {
              said.push(tagOf(error), error instanceof Error ? error.message : "");
            },
          );
        }
        try {
          attention.endStep();
        } catch (error) {
          said.push(tagOf(error));
        }
        return { said, length: attention.sequenceLength(sequence), before, after: await ask() };
      } finally {
        attention.close();
      }
    },

    /** Out [tokens, own heads, D] and LSE [tokens, own heads] of every token, as numbers. */
    async run({ tokens, damage, combine, kvDtype, perToken, window, prefillChunk, partialDtype }: DamagedCase) {
      arena.reset();
      const attention = DcpAttention.open({
        backend,
        ...(backend.name === "webgpu" ? { mergeBackend } : {}),
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: 8,
        kvHeads: 1,
        headDim: HEAD_DIM,
        valueDim: VALUE_DIM,
        kvDtype,
        ...(kvDtype === "f8e4m3" && !perToken ? { kvScales: { key: 1, value: 1 } } : {}),
        blockSize: 2,
        numBlocks: tokens,
        combine,
        ...(window === undefined ? {} : { window }),
        ...(prefillChunk === undefined ? {} : { prefillChunk }),
        ...(partialDtype === undefined ? {} : { partialDtype }),
      });
      const own = Math.floor((8 * (rank + 1)) / world.size) - Math.floor((8 * rank) / world.size);
      const tensor = (heads: number, dim: number, fill: (token: number, column: number) => number): Tensor =>
        Tensor.from(
          arena,
          "f32",
          [tokens, heads, dim],
          Array.from({ length: tokens * heads * dim }, (_, at) => fill(Math.floor(at / (heads * dim)), at % dim)),
        );
      const isDamaged = (place: string, token: number, column: number): boolean =>
        place === damage.place && token === damage.token && column === damage.column;
      const query = tensor(own, HEAD_DIM, () => (damage.faint ? 8 : 0.5));
      const key = tensor(1, HEAD_DIM, (token, column) => {
        if (isDamaged("key", token, column)) return damage.value;
        return damage.faint && token === damage.token ? -200 : Math.sin(token + column);
      });
      const value = tensor(1, VALUE_DIM, (token, column) =>
        isDamaged("value", token, column) ? damage.value : Math.cos(token * 3 + column),
      );
      const out = Tensor.empty(arena, "f32", [tokens, own, VALUE_DIM]);
      const lse = Tensor.empty(arena, "f32", [tokens, own]);
      const sequence = attention.createSequence();
      try {
        if (prefillChunk !== undefined) {
          attention.beginPrefill([{ sequence, tokens }]);
          await attention.prefill(0, query, key, value, out, lse);
          attention.endStep();
        }
        for (let token = 0; token < tokens && prefillChunk === undefined; token++) {
          const row = (all: Tensor): Tensor => all.slice(0, token, token + 1);
          attention.beginStep([{ sequence, tokens: 1 }]);
          await attention.forward(0, row(query), row(key), row(value), row(out), row(lse));
          attention.endStep();
        }
      } finally {
        attention.close();
      }
      return { own, out: [...out.toNumbers()], lse: [...lse.toNumbers()] };
    },
  };
}
