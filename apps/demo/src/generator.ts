import { type MethodsOf, openWorld, parallelGroups, type World } from "@lockstep/dist-groups";
import type { BackendName } from "@lockstep/kernels";
import { ArgumentError } from "@lockstep/tensor";
import { UsageError } from "./errors.ts";
import { blocksPerRank, heapBytesPerRank } from "./memory-plan.ts";
import type { Model } from "./model.ts";
import type { RankMetrics, RankOptions } from "./rank-program.ts";
import { checkParallelSizes, chooseKvLayout, type KvHeadLayout, type ParallelSizes } from "./tensor-parallel.ts";
import { TokenStream } from "./token-stream.ts";

type Program = typeof import("./rank-program.ts");
type RankWorld = World<MethodsOf<Program>>;

/** How a model is spread and run. */
export interface GeneratorOptions {
  /** Ranks, all tensor-parallel. */
  readonly world: number;
  /** Ranks that share a KV cache; divides `world`. Default: `world`. */
  readonly dcp?: number;
  /** Default "auto": sharded where that is legal. */
  readonly kvHeads?: KvHeadLayout | "auto";
  /** Default "auto". */
  readonly backend?: BackendName | "auto";
  /** Accept a software adapter for webgpu. Default false. */
  readonly softwareVulkan?: boolean;
  /** Default "auto". */
  readonly combine?: "ag-rs" | "a2a" | "auto";
  /** Default "f32". */
  readonly kvDtype?: "f32" | "f16" | "bf16";
  /** Default 16. */
  readonly blockSize?: number;
  /** Default 1. */
  readonly interleave?: number;
  /** Most tokens of one text, prompt included: decides how many KV blocks each rank gets. */
  readonly capacity: number;
  /** Most tokens of one forward pass. Default 256. */
  readonly maxStepTokens?: number;
  /** Deadline of each step. Default 120 s. */
  readonly deadlineMs?: number;
}

/** What to make of a prompt. */
export interface GenerateOptions {
  /** Most tokens to generate. */
  readonly maxTokens: number;
  /** Tokens that end the text; they are not yielded. Default: none. */
  readonly endTokens?: readonly number[];
  /** Told how many tokens of the prompt have been computed. */
  readonly onPrefill?: (done: number) => void;
}

/** Tokens the ranks make between two answers to the host, which reads them as they come all the same. */
const TOKENS_PER_CALL = 32;

/** A model on a world of ranks that continues texts, one at a time. */
export class Generator implements AsyncDisposable {
  readonly sizes: ParallelSizes;
  /** KV blocks of each rank. */
  readonly blocksPerRank: number;
  readonly #world: RankWorld;
  readonly #maxStepTokens: number;
  readonly #vocabularySize: number;
  readonly #stream: TokenStream;

  private constructor(world: RankWorld, options: RankOptions) {
    this.#world = world;
    this.sizes = options.sizes;
    this.blocksPerRank = options.numBlocks;
    this.#maxStepTokens = options.maxStepTokens;
    this.#vocabularySize = options.config.vocabularySize;
    this.#stream = TokenStream.create(world.heap, TOKENS_PER_CALL);
  }

  /**
   * Opens a world whose ranks have loaded their share of the model.
   * Throws {@link UsageError} for sizes that cannot run it, and whatever stopped a rank.
   */
  static async open(model: Model, options: GeneratorOptions): Promise<Generator> {
    const { config } = model;
    const { world: size, dcp = size, capacity, maxStepTokens = 256, blockSize = 16, kvDtype = "f32" } = options;
    const wanted = options.kvHeads ?? "auto";
    const kvLayout = wanted === "auto" ? chooseKvLayout(size, dcp, config.kvHeads) : wanted;
    const sizes: ParallelSizes = { world: size, dcp, kvLayout };
    checkParallelSizes(sizes, config.queryHeads, config.kvHeads);
    if (capacity > config.maxPositions) {
      throw new UsageError(
        `the text would grow to ${capacity} tokens, but the model was made for ${config.maxPositions}: ` +
          "take a shorter --prompt or fewer --max-tokens.",
      );
    }
    const cache = { sizes, kvDtype, blockSize, capacity, maxStepTokens, maxLogitRows: 1 };
    const numBlocks = blocksPerRank(cache);
    const rankOptions: RankOptions = {
      modelFolder: model.folder,
      config,
      sizes,
      backend: options.backend ?? "auto",
      softwareVulkan: options.softwareVulkan ?? false,
      combine: options.combine ?? "auto",
      kvDtype,
      blockSize,
      interleave: options.interleave ?? 1,
      numBlocks,
      maxStepTokens,
    };
    const world = await openWorld<Program>({
      size,
      program: new URL("./rank-program.ts", import.meta.url),
      options: rankOptions,
      heapBytesPerRank: heapBytesPerRank(config, model.largestTensorBytes, cache),
      groups: { dcp: parallelGroups({ layout: "classic", tp: size, dcp }).dcp },
      heapBytesHost: 1 << 20,
      startDeadlineMs: 300_000,
      deadlineMs: options.deadlineMs ?? 120_000,
    });
    return new Generator(world, rankOptions);
  }

  /** Continues a text greedily, yielding each token as soon as it is known. A new text: what came before is forgotten. */
  async *generate(prompt: readonly number[], options: GenerateOptions): AsyncGenerator<number, void> {
    const { maxTokens, endTokens = [] } = options;
    let token = await this.prefill(prompt, options.onPrefill);
    if (endTokens.includes(token)) return;
    yield token;
    for (let made = 1; made < maxTokens; made += TOKENS_PER_CALL) {
      const count = Math.min(maxTokens - made, TOKENS_PER_CALL);
      for await (token of this.decode(token, count, endTokens)) {
        if (endTokens.includes(token)) return;
        yield token;
      }
    }
  }

  /**
   * Starts a new text with a prompt; returns the token that follows.
   * @param onPrefill told how many tokens of the prompt have been computed
   */
  async prefill(prompt: readonly number[], onPrefill?: (done: number) => void): Promise<number> {
    await this.#world.call("restart", []);
    let token = -1;
    for (let done = 0; done < prompt.length; ) {
      const part = prompt.slice(done, done + this.#maxStepTokens);
      token = await this.step(part);
      done += part.length;
      onPrefill?.(done);
    }
    return token;
  }

  /**
   * Appends a token and all that follow it, one call for all of them: yields `count` tokens, fewer when one of
   * `endTokens` comes (which is the last one yielded). Leaving early waits for the ranks to finish.
   */
  async *decode(token: number, count: number, endTokens: readonly number[] = []): AsyncGenerator<number, void> {
    this.#checkIds("Generator.decode", [token]);
    if (!Number.isInteger(count) || count < 1 || count > TOKENS_PER_CALL) {
      throw new ArgumentError("Generator.decode", "count", `from 1 to ${TOKENS_PER_CALL}`, String(count));
    }
    this.#stream.clear();
    yield* this.#stream.read(this.#world.call("decode", [token, count, endTokens, this.#stream.descriptor]));
  }

  /**
   * Appends tokens to the current text; returns the token that follows.
   * @param ids from 1 to maxStepTokens ids of the vocabulary
   */
  async step(ids: readonly number[]): Promise<number> {
    this.#checkIds("Generator.step", ids);
    if (ids.length < 1 || ids.length > this.#maxStepTokens) {
      throw new ArgumentError("Generator.step", "ids", `from 1 to ${this.#maxStepTokens} tokens`, `${ids.length}`);
    }
    const [token = -1] = await this.#world.call("step", [ids]);
    return token;
  }

  /** Logits of the last step, of the whole vocabulary. */
  async logits(): Promise<Float32Array> {
    const parts = await this.#world.call("logits", []);
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** What each rank did and holds. */
  metrics(): Promise<RankMetrics[]> {
    return this.#world.call("metrics", []);
  }

  /** Overwrites one rank's KV shard with zeros. */
  async eraseCache(rank: number): Promise<void> {
    await this.#world.callRank(rank, "eraseCache", []);
  }

  #checkIds(operation: string, ids: readonly number[]): void {
    const unknown = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= this.#vocabularySize);
    if (unknown !== undefined) {
      throw new ArgumentError(operation, "ids", `from 0 to ${this.#vocabularySize - 1}`, String(unknown));
    }
  }

  close(): Promise<void> {
    return this.#world.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
