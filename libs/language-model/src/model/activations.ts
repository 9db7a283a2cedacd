import { type SharedHeap, Tensor } from "@lockstep/tensor";
import { HEAP_LINE_BYTES } from "../layers/heap-line.ts";
import type { ModelConfig } from "./config.ts";
import { GatherRoom, type GatheredStep, gatherBytes, wordsOf } from "./gathered-columns.ts";
import { lengthOf, type RankShare } from "./tensor-parallel.ts";

/** Tensors of a rank's activations, at most. */
const TENSORS = 20;

/** Activations of T tokens; heads and columns are this rank's. */
export interface Activations {
  /** Token ids [T], i32. */
  readonly ids: Tensor;
  /** Their positions [T], i32. */
  readonly positions: Tensor;
  /** The residual stream [T, hidden]. */
  readonly hidden: Tensor;
  /** Its normalised form, and a layer's partial or summed output [T, hidden]. */
  readonly normed: Tensor;
  readonly delta: Tensor;
  /** [T, heads, D] */
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly attended: Tensor;
  /** [T, columns] */
  readonly gate: Tensor;
  readonly up: Tensor;
  /** [T, D / 2] */
  readonly cosines: Tensor;
  readonly sines: Tensor;
  /** Rows on their way through an all-reduce [T, hidden], where peers reach them; undefined where they reach all. */
  readonly exchanged: Tensor | undefined;
  /** Their words, or those of `hidden`, i32. */
  readonly words: Tensor;
  /** What is gathered from other ranks; undefined where layers' partial outputs are summed instead, if at all. */
  readonly gathered: GatheredStep | undefined;
}

/** Activations of the most tokens of a step. */
export interface AllActivations extends Omit<Activations, "gathered" | "words"> {
  /** Room for what is gathered from other ranks. */
  readonly gatherRoom: GatherRoom | undefined;
}

/**
 * Activations of up to `maxStepTokens` tokens.
 * @param heap what peers reach; `ownHeap`: where the layers compute, perhaps the same
 * @throws HeapExhausted
 */
export function openActivations(
  config: ModelConfig,
  share: RankShare,
  maxStepTokens: number,
  heaps: { readonly heap: SharedHeap; readonly ownHeap: SharedHeap },
): AllActivations {
  const { heap, ownHeap } = heaps;
  const rows = (...shape: number[]): Tensor => Tensor.empty(ownHeap, "f32", [maxStepTokens, ...shape]);
  const heads = lengthOf(share.queryHeads);
  const kvHeads = lengthOf(share.kvHeads);
  const columns = lengthOf(share.intermediate);
  return {
    ids: Tensor.empty(ownHeap, "i32", [maxStepTokens]),
    positions: Tensor.empty(ownHeap, "i32", [maxStepTokens]),
    hidden: rows(config.hiddenSize),
    normed: rows(config.hiddenSize),
    delta: rows(config.hiddenSize),
    query: rows(heads, config.headDim),
    key: rows(kvHeads, config.headDim),
    value: rows(kvHeads, config.headDim),
    attended: rows(heads, config.headDim),
    gate: rows(columns),
    up: rows(columns),
    cosines: rows(config.headDim / 2),
    sines: rows(config.headDim / 2),
    exchanged: ownHeap.id === heap.id ? undefined : Tensor.empty(heap, "f32", [maxStepTokens, config.hiddenSize]),
    gatherRoom: share.outputs.isGathered ? new GatherRoom(config, share, maxStepTokens, heaps) : undefined,
  };
}

/**
 * The first `tokens` rows of all of them. Of one token, what comes of one input lies one behind another, as the weights
 * do, so that it can be one product: query, key and value, and gate and up.
 */
export function firstRows(all: AllActivations, tokens: number): Activations {
  const cut = (tensor: Tensor): Tensor => tensor.slice(0, 0, tokens);
  const [query, key, value] = tokens === 1 ? behindOneAnother(all.query, all.key, all.value) : [];
  const [gate, up] = tokens === 1 ? behindOneAnother(all.gate, all.up) : [];
  const exchanged = all.exchanged === undefined ? undefined : cut(all.exchanged);
  const hidden = cut(all.hidden);
  const own = { attended: cut(all.attended), gate: gate ?? cut(all.gate), delta: cut(all.delta) };
  return {
    ...own,
    ids: cut(all.ids),
    positions: cut(all.positions),
    hidden,
    normed: cut(all.normed),
    query: query ?? cut(all.query),
    key: key ?? cut(all.key),
    value: value ?? cut(all.value),
    up: up ?? cut(all.up),
    cosines: cut(all.cosines),
    sines: cut(all.sines),
    exchanged,
    words: wordsOf(exchanged ?? hidden),
    gathered: all.gatherRoom?.of(own),
  };
}

/** A row of each tensor, all in the first one's memory; none where they do not fit there. */
function behindOneAnother(...tensors: readonly [Tensor, ...Tensor[]]): readonly (Tensor | undefined)[] {
  const [first] = tensors;
  const sizes = tensors.map((tensor) => tensor.size / Math.max(1, tensor.dim(0)));
  if (sizes.reduce((sum, size) => sum + size, 0) > first.size) return [];
  const room = first.reshape([first.size]);
  let at = 0;
  return tensors.map((tensor, index) => {
    const from = at;
    at += sizes[index] ?? 0;
    return room.slice(0, from, at).reshape([1, ...tensor.shape.slice(1)]);
  });
}

/** Bytes of the activations of one rank, its logits among them. */
export function activationBytes(
  config: ModelConfig,
  share: RankShare,
  maxStepTokens: number,
  maxLogitRows: number,
): number {
  const heads = 2 * lengthOf(share.queryHeads) + 2 * lengthOf(share.kvHeads) + 1;
  const row = 2 + 3 * config.hiddenSize + heads * config.headDim + 2 * lengthOf(share.intermediate);
  const elements = maxStepTokens * row + maxLogitRows * lengthOf(share.vocabulary);
  return 4 * elements + TENSORS * HEAP_LINE_BYTES + gatherBytes(config, share, maxStepTokens).own;
}
