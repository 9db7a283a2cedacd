// The rank's side of the tests that damaged keys and values show, wherever they are stored.
import { type Combine, DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Arena, type DType, Tensor } from "@lockstep/tensor";
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
    /** Out [tokens, own heads, D] and LSE [tokens, own heads] of every token, as numbers. */
    async run({ tokens, damage, combine, kvDtype, window, prefillChunk, partialDtype }: DamagedCase) {
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
        ...(kvDtype === "f8e4m3" ? { kvScales: { key: 1, value: 1 } } : {}),
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
