import type { Determinism, RankWorkerSource } from "@lockstep/dist-groups";
import type { BackendName } from "@lockstep/kernels";
import type { WeightKind } from "../layers/weight.ts";
import type { KvHeadLayout } from "../model/tensor-parallel.ts";
import type { KvDtype, KvScaleSource } from "./kv-calibration.ts";

/** How a model is spread and run. */
export interface GeneratorOptions {
  /**
   * Ranks, all tensor-parallel. "auto": as many, up to the cores that there are, as are fastest here, with the `dcp`
   * and the layout of KV heads, where they are left out, that are ({@link chooseWorld}).
   */
  readonly world: number | "auto";
  /**
   * Ranks that split the tokens of a KV cache among them; divides `world`. Default: the fewest that leave no KV head
   * stored twice: world / kvHeads where the model's KV heads divide the world, 1 where the world divides them, in
   * general the world by their greatest common divisor; with `kvHeads` "replicated" the world.
   */
  readonly dcp?: number;
  /** Default "auto": sharded where that is legal and not the same as replicated. */
  readonly kvHeads?: KvHeadLayout | "auto";
  /** Default "auto". */
  readonly backend?: BackendName | "auto";
  /** Accept a software adapter for webgpu. Default false. */
  readonly softwareVulkan?: boolean;
  /** GPUs to spread the ranks over, round-robin. Default: all there are. 1: the one that the system prefers. */
  readonly gpus?: number;
  /**
   * One rank of those of a process on a GPU holds the device and runs the others' attention with its own. Default
   * false.
   */
  readonly sharedGpu?: boolean;
  /**
   * On GPUs: a token's logits have the bits that they have when its text is alone, however texts are batched, cut into
   * steps, prefilled, forked or drafted for, as they always do on wasm and reference. false: attention in the shape
   * that is fastest for each step, with matrix units; results agree within tolerance. Default true.
   */
  readonly batchInvariant?: boolean;
  /**
   * What the bits of a token's logits may depend on besides its text. `rank-order`: on how the model is spread (`world`,
   * `dcp`, `kvHeads`, `interleave`), and on no more. `world-invariant`: not on that either, so that any number of ranks
   * gives the same logits and tokens, drawn ones too, on each backend for itself. Ranks then gather whole rows between
   * matrices instead of summing parts of them, and exchange exact sums in attention: the combine is a2a, ag-rs or auto.
   * Default "rank-order".
   */
  readonly deterministic?: Determinism;
  /** Default "auto". */
  readonly combine?: "ag-rs" | "a2a" | "one-shot" | "auto";
  /**
   * How matrices of weights are kept: as the checkpoint stores them (f32, bf16 or f16), or in int8 with an f32 scale
   * for every 32 elements of a row. Default "stored".
   */
  readonly weights?: WeightKind;
  /** Default "f32". */
  readonly kvDtype?: KvDtype;
  /** Scales of a quantised KV cache (kvDtype f8e4m3 or i8), left out for others. Default "per-token". */
  readonly kvScales?: KvScaleSource;
  /**
   * For static scales: tokens like those of the texts to come, such as a prompt. The keys and values of the first 256
   * of them decide the scales, one for each KV head of each layer.
   */
  readonly calibration?: readonly number[];
  /** Default 16. */
  readonly blockSize?: number;
  /** Default 1. */
  readonly interleave?: number;
  /**
   * Shares of the KV cache that the ranks of a DCP group store, in their order: 3, 1 where the first has three times the
   * memory of the second. Integers, of which one at least is not 0. As many as `dcp`, which is their number where it is
   * left out. Default: by `kvBytes`, or equal ones.
   */
  readonly kvWeights?: readonly number[];
  /**
   * Bytes that each rank of a DCP group has for its KV cache, in their order, on its GPU or in its memory. Tokens are
   * dealt such that it holds as many as it can. What does not fit is refused, and where nobody says how many tokens
   * there are to be, there are as many as fit. As many as `dcp`, likewise. Default: as much as is needed.
   */
  readonly kvBytes?: readonly number[];
  /**
   * Most tokens of one text, prompt included: decides how many KV blocks each rank gets. Default: as many as the model
   * was made for, or as fit.
   */
  readonly capacity?: number;
  /** Most texts at once. Default 1. */
  readonly texts?: number;
  /**
   * Most tokens drafted for a text at a time, found in the text itself and verified in one pass. Default 0: no
   * speculation.
   */
  readonly maxDraft?: number;
  /** Most tokens of one forward pass. Default 256. */
  readonly maxStepTokens?: number;
  /**
   * Prompts are computed so many tokens at a time, one prompt after another; on GPUs over a context that is gathered so
   * many tokens at a time (rounded up to whole tiles of keys of every rank), else by gathering queries. Default: in one
   * go with what decodes, up to maxStepTokens, by gathering queries.
   */
  readonly prefillChunk?: number;
  /** Deadline of each step. Default 120 s. */
  readonly deadlineMs?: number;
  /**
   * Workers of your own for the ranks, for bundlers: as `worker` of `openWorld`, with a module that calls
   * `runGeneratorRank` of `@lockstep/language-model/rank`. Default: the library's own. A `world` of "auto" starts some
   * of them before, to be timed.
   */
  readonly worker?: RankWorkerSource | undefined;
  /**
   * Told, while the ranks load, how many `bytes` of weights they have read together, of `totalBytes` that there are.
   * Those of other processes are taken to be as far as those of this one.
   */
  readonly onLoad?: (bytes: number, totalBytes: number) => void;
}

/** How a model is spread and run, with its ranks counted. */
export type SizedOptions = GeneratorOptions & {
  /** Ranks, all tensor-parallel. */
  readonly world: number;
};

/** What an engine needs besides, and a generator does without. */
export interface ServingNeeds {
  /** Tokens that the KV cache holds over all texts; at least a text of the capacity. Left out: of all texts at once. */
  readonly kvTokens?: number;
  /** Whether tokens may be drawn by chance, or told with log-probabilities. */
  readonly drawsTokens?: boolean;
  /** Whether texts that begin alike share blocks of the cache. */
  readonly prefixCache?: boolean;
}
