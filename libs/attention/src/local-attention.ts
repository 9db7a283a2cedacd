import type { Completion, KvShard, Operand, PartialAttentionArgs } from "@lockstep/kernels";
import type { Tensor } from "@lockstep/tensor";
import type { AttentionVariant } from "./attention-variant.ts";
import type { DcpAttentionOptions } from "./dcp-attention-options.ts";
import type { KvCaches } from "./kv-caches.ts";
import type { StepPlan } from "./step-plan.ts";

type LayerArgs = Omit<PartialAttentionArgs, "query" | "blockTable" | "sequences" | "positions" | "out" | "lse">;

/**
 * Attention of all query heads over this rank's own tokens, into the heap: what is combined with the other ranks'. Outputs in 16
 * bits are rounded where they were computed, once, so that half as many bytes leave a GPU.
 */
export class LocalAttention {
  readonly #options: DcpAttentionOptions;
  readonly #shard: KvShard;
  readonly #caches: KvCaches;
  readonly #variants: readonly AttentionVariant[];
  readonly #scoreFactor: number;
  readonly #layerArgs: LayerArgs[] = [];
  /** Outputs and LSEs before they are rounded, on the backend; undefined where nothing is rounded. */
  readonly #unrounded: { readonly out: Operand; readonly lse: Operand } | undefined;

  /**
   * @param scoreFactor what scores are to be multiplied by because of how queries were gathered
   * @param roundedRows most query tokens of a step whose outputs are rounded; 0: none are
   * @throws HeapExhausted, DeviceError
   */
  constructor(
    options: DcpAttentionOptions,
    shard: KvShard,
    caches: KvCaches,
    variants: readonly AttentionVariant[],
    scoreFactor: number,
    roundedRows: number,
  ) {
    const { backend, queryHeads, headDim, valueDim = headDim } = options;
    this.#options = options;
    this.#shard = shard;
    this.#caches = caches;
    this.#variants = variants;
    this.#scoreFactor = scoreFactor;
    if (roundedRows === 0) return;
    const out = backend.empty("f32", [roundedRows, queryHeads, valueDim]);
    try {
      this.#unrounded = { out, lse: backend.empty("f32", [roundedRows, queryHeads]) };
    } catch (error) {
      out.free();
      throw error;
    }
  }

  /** Writes `out` [T, queryHeads, valueDim], f32 or the options' partialDtype, and `lse` [T, queryHeads], f32, natural. */
  attend(layer: number, plan: StepPlan, query: Tensor, out: Tensor, lse: Tensor): Completion {
    const { blockTable, sequences, positions, queries } = plan;
    const { backend } = this.#options;
    const layerArgs = this.#layerArgs[layer] ?? this.#argsOf(layer);
    const args = { ...layerArgs, query, blockTable, sequences, positions };
    if (out.dtype === "f32" || this.#unrounded === undefined) return backend.partialAttention({ ...args, out, lse });
    const unrounded = this.#unrounded.out.slice(0, 0, queries);
    const unroundedLse = this.#unrounded.lse.slice(0, 0, queries);
    // A state alone merges into itself, rounded.
    return backend.batch(() => {
      void backend.partialAttention({ ...args, out: unrounded, lse: unroundedLse });
      void backend.mergeAttnStates({ outs: [unrounded], lses: [unroundedLse], nonFinite: "propagate", out, lse });
    });
  }

  close(): void {
    this.#unrounded?.out.free();
    this.#unrounded?.lse.free();
  }

  /** What a layer's attention takes at every step; kept. */
  #argsOf(layer: number): LayerArgs {
    const { headDim, headGroup } = this.#options;
    const { sinks, scale = 1 / Math.sqrt(headDim), ...variant } = this.#variants[layer] ?? {};
    const args: LayerArgs = {
      keyCache: this.#caches.key(layer),
      valueCache: this.#caches.value(layer),
      ...this.#caches.scales(layer),
      ...this.#caches.rowScales(layer),
      shard: this.#shard,
      scale: scale * this.#scoreFactor,
      ...variant,
      // Sinks join once: on the rank that holds the first tokens.
      ...(sinks === undefined || this.#shard.index !== 0 ? {} : { sinks }),
      ...(headGroup === undefined ? {} : { headGroup }),
    };
    this.#layerArgs[layer] = args;
    return args;
  }
}
