// What ranks gather of each other's columns in world-invariant steps, so that no sum crosses ranks.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import { HEAP_LINE_BYTES } from "../layers/heap-line.ts";
import type { ModelConfig } from "./config.ts";
import { lengthOf, type RankShare } from "./tensor-parallel.ts";

/** Rows of which every rank has some columns, or some heads, which have columns of their own: [T, C] or [T, H, D]. */
export interface GatheredColumns {
  /** This rank's, where it computes. */
  readonly own: Tensor;
  /** Every rank's, one behind another, where it computes. */
  readonly whole: Tensor;
  /** The same where peers reach them: the tensors above where they reach all. */
  readonly sentOwn: Tensor;
  readonly sentWhole: Tensor;
  /** `sentWhole` as words, i32. */
  readonly words: Tensor;
  /** The first of this rank's columns, or heads. */
  readonly start: number;
  /** Whether every rank's columns are the chunk that an all-gather takes of it. */
  readonly areChunks: boolean;
}

/** What a step gathers in every layer. */
export interface GatheredStep {
  /** Attention of all heads [T, heads, D], which the output projection takes in. */
  readonly attended: GatheredColumns;
  /** The MLP's hidden layer [T, columns], which its output projection takes in. */
  readonly gate: GatheredColumns;
  /** What a projection gives [T, hidden]. */
  readonly delta: GatheredColumns;
}

/** This rank's part of a step's activations, and one whole tensor that is there without the mode. */
interface OwnParts {
  /** [T, own heads, D] */
  readonly attended: Tensor;
  /** [T, own columns] */
  readonly gate: Tensor;
  /** Whole [T, hidden]. */
  readonly delta: Tensor;
}

/** Tensors that the mode takes, at most. */
const TENSORS = 4;

/** Room for what steps of so many tokens gather. */
export class GatherRoom {
  readonly #config: ModelConfig;
  readonly #share: RankShare;
  /** What comes into a projection: of attention or of the MLP, never both at a time. */
  readonly #inputs: Tensor;
  /** What this rank computes of its outputs. */
  readonly #outputs: Tensor;
  /** Copies where peers reach them; undefined where they reach all. */
  readonly #sent: { readonly own: Tensor; readonly whole: Tensor } | undefined;

  /**
   * @param heap what peers reach; `ownHeap`: where the layers compute, perhaps the same
   * @throws HeapExhausted
   */
  constructor(
    config: ModelConfig,
    share: RankShare,
    maxStepTokens: number,
    { heap, ownHeap }: { readonly heap: SharedHeap; readonly ownHeap: SharedHeap },
  ) {
    const { inputs, outputs, sentOwn, sentWhole } = gatheredRow(config, share);
    const room = (of: SharedHeap, width: number): Tensor => Tensor.empty(of, "f32", [maxStepTokens * width]);
    this.#config = config;
    this.#share = share;
    this.#inputs = room(ownHeap, inputs);
    this.#outputs = room(ownHeap, outputs);
    this.#sent = ownHeap.id === heap.id ? undefined : { own: room(heap, sentOwn), whole: room(heap, sentWhole) };
  }

  /** What a step of T tokens gathers. */
  of({ attended, gate, delta }: OwnParts): GatheredStep {
    const [tokens = 0] = gate.shape;
    const { headDim, queryHeads, intermediateSize } = this.#config;
    const { outputs, queryHeads: ownHeads, intermediate } = this.#share;
    const like = (room: Tensor, shape: readonly number[]): Tensor =>
      room
        .slice(
          0,
          0,
          shape.reduce((product, size) => product * size, 1),
        )
        .reshape(shape);
    const columns = (own: Tensor, whole: Tensor, start: number, areChunks: boolean): GatheredColumns => {
      const sent = this.#sent;
      const sentOwn = sent === undefined ? own : like(sent.own, own.shape);
      const sentWhole = sent === undefined ? whole : like(sent.whole, whole.shape);
      return { own, whole, sentOwn, sentWhole, words: wordsOf(sentWhole), start, areChunks };
    };
    const inputs = this.#inputs;
    const wholeAttended = like(inputs, [tokens, queryHeads, headDim]);
    return {
      attended: columns(attended, wholeAttended, ownHeads.start, outputs.headsAreChunks),
      gate: columns(gate, like(inputs, [tokens, intermediateSize]), intermediate.start, true),
      delta: columns(like(this.#outputs, [tokens, lengthOf(outputs.hidden)]), delta, outputs.hidden.start, true),
    };
  }
}

/** Elements of a token's row in each of the tensors of a {@link GatherRoom}. */
function gatheredRow(config: ModelConfig, { outputs, queryHeads, intermediate }: RankShare) {
  const { headDim, hiddenSize, intermediateSize } = config;
  const inputs = Math.max(config.queryHeads * headDim, intermediateSize);
  const hidden = lengthOf(outputs.hidden);
  return {
    inputs,
    outputs: hidden,
    sentOwn: Math.max(lengthOf(queryHeads) * headDim, lengthOf(intermediate), hidden),
    sentWhole: Math.max(inputs, hiddenSize),
  };
}

/** Bytes of a {@link GatherRoom}: in a rank's own memory, and in that which peers reach where that is another one. */
export function gatherBytes(
  config: ModelConfig,
  share: RankShare,
  maxStepTokens: number,
): { readonly own: number; readonly sent: number } {
  if (!share.outputs.isGathered) return { own: 0, sent: 0 };
  const { inputs, outputs, sentOwn, sentWhole } = gatheredRow(config, share);
  const bytes = (elements: number): number => 4 * maxStepTokens * elements + TENSORS * HEAP_LINE_BYTES;
  return { own: bytes(inputs + outputs), sent: bytes(sentOwn + sentWhole) };
}

/** Fills `whole` from what every rank has of it. All ranks of the world call it together. */
export function gatherColumns(world: ProcessGroup, columns: GatheredColumns): void {
  const { own, whole, sentOwn, sentWhole, words, start, areChunks } = columns;
  if (areChunks) {
    sentOwn.copyFrom(own);
    world.allGather(sentOwn, sentWhole, { dim: 1 });
  } else {
    sentWhole.fill(0);
    sentWhole.slice(1, start, start + own.dim(1)).copyFrom(own);
    joinWords(world, words);
  }
  whole.copyFrom(sentWhole);
}

/**
 * Puts words [...] together, each of which one rank has where the others have 0. Words are added as integers, so that
 * none changes: as floats, -0 and 0 would be 0. All ranks of the world call it together.
 */
export function joinWords(world: ProcessGroup, words: Tensor): void {
  world.allReduce(words, words);
}

/** A tensor's f32 as words. */
export function wordsOf(tensor: Tensor): Tensor {
  const dtype: DType = "i32";
  return Tensor.fromDescriptor({ ...tensor.descriptor, dtype }, tensor.heap);
}
