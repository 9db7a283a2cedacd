import { type MethodsOf, openWorld, parallelGroups, type World } from "@lockstep/dist-groups";
import { type BackendName, installedGpus } from "@lockstep/kernels";
import { ArgumentError, ResourceClosed } from "@lockstep/tensor";
import { UnfitOptions } from "../errors.ts";
import { type Explanation, explainStep } from "./explanation.ts";
import { describeJson } from "../model/json-file.ts";
import { gpuGroups } from "./rank-backend.ts";
import { isQuantisedKv, type KvDtype, type KvScaleSource } from "./kv-calibration.ts";
import { blocksPerRank, heapBytesPerRank } from "./memory-plan.ts";
import type { Model } from "../model/model.ts";
import type { RankMetrics, RankOptions } from "./rank-program.ts";
import { checkParallelSizes, chooseKvLayout, type KvHeadLayout, type ParallelSizes } from "../model/tensor-parallel.ts";
import { type TextToken, TokenStream } from "./token-stream.ts";

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
  /** GPUs to spread the ranks over, round-robin. Default: all there are. 1: the one that the system prefers. */
  readonly gpus?: number;
  /** One rank of those on a GPU holds the device and runs the others' attention with its own. Default false. */
  readonly sharedGpu?: boolean;
  /** Default "auto". */
  readonly combine?: "ag-rs" | "a2a" | "one-shot" | "auto";
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
  /** Most tokens of one text, prompt included: decides how many KV blocks each rank gets. */
  readonly capacity: number;
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
   * Prompts are computed so many tokens at a time, one prompt after another, over a context that is gathered so many
   * tokens at a time. Default: in one go with what decodes, up to maxStepTokens, by gathering queries.
   */
  readonly prefillChunk?: number;
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
  /** A step to be explained afterwards, counted from 1 with those of the prompts: see {@link Generator.explain}. */
  readonly explain?: number | "last";
}

interface MakeOptions {
  readonly maxTokens: number;
  readonly endTokens: readonly number[];
  readonly onPrefill: GenerateOptions["onPrefill"];
  readonly explain: GenerateOptions["explain"];
}

/** Steps the ranks make between two answers to the host, which reads their tokens as they come all the same. */
const STEPS_PER_CALL = 32;
/** Tokens of the sample that decides the scales of a quantised KV cache. */
const CALIBRATION_TOKENS = 256;

/** A model on a world of ranks that continues texts. */
export class Generator implements AsyncDisposable {
  readonly sizes: ParallelSizes;
  /** KV blocks of each rank. */
  readonly blocksPerRank: number;
  readonly #world: RankWorld;
  readonly #maxStepTokens: number;
  readonly #prefillChunk: number | undefined;
  readonly #vocabularySize: number;
  readonly #texts: number;
  readonly #maxDraft: number;
  readonly #stream: TokenStream;
  /** Settles when what changes the texts, and was asked for last, is over. */
  #lastTurn: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(world: RankWorld, options: RankOptions, texts: number, maxDraft: number) {
    this.#world = world;
    this.#texts = texts;
    this.#maxDraft = maxDraft;
    this.#prefillChunk = options.prefillChunk;
    this.sizes = options.sizes;
    this.blocksPerRank = options.numBlocks;
    this.#maxStepTokens = options.maxStepTokens;
    this.#vocabularySize = options.config.vocabularySize;
    this.#stream = TokenStream.create(world.heap, tokensPerCall(options.maxLogitRows));
  }

  /**
   * Opens a world whose ranks have loaded their share of the model.
   * Throws {@link UnfitOptions} for sizes that cannot run it, and whatever stopped a rank.
   */
  static async open(model: Model, options: GeneratorOptions): Promise<Generator> {
    const { config } = model;
    const { world: size, dcp = size, capacity, blockSize = 16, kvDtype = "f32", prefillChunk } = options;
    const { texts = 1, maxDraft = 0 } = options;
    checkCounts(options);
    const maxLogitRows = texts * (maxDraft + 1);
    const maxStepTokens = Math.max(options.maxStepTokens ?? 256, maxLogitRows);
    const wanted = options.kvHeads ?? "auto";
    const kvLayout = wanted === "auto" ? chooseKvLayout(size, dcp, config.kvHeads) : wanted;
    const sizes: ParallelSizes = { world: size, dcp, kvLayout };
    checkParallelSizes(sizes, config.queryHeads, config.kvHeads);
    if (capacity > config.maxPositions) {
      throw new UnfitOptions(
        `the text would grow to ${capacity} tokens, but the model was made for ${config.maxPositions}: ` +
          "take a shorter `prompt` or fewer `maxTokens`.",
      );
    }
    const isStatic = checkScales(options);
    const calibration = isStatic ? (options.calibration ?? []).slice(0, CALIBRATION_TOKENS) : [];
    if (isStatic && calibration.length === 0) {
      throw new UnfitOptions(
        `a KV cache in ${kvDtype} needs calibration tokens for static scales, but there are none.`,
      );
    }
    checkIds("Generator.open", "calibration", calibration, config.vocabularySize);
    const cache = {
      sizes,
      kvDtype,
      blockSize,
      capacity,
      texts,
      maxStepTokens,
      maxLogitRows,
      calibrationTokens: calibration.length,
      prefillChunk: prefillChunk ?? 0,
    };
    const numBlocks = blocksPerRank(cache);
    const gpus = options.gpus ?? Math.max(1, installedGpus().length);
    const rankOptions: RankOptions = {
      modelFolder: model.folder,
      config,
      sizes,
      backend: options.backend ?? "auto",
      softwareVulkan: options.softwareVulkan ?? false,
      gpus,
      sharedGpu: options.sharedGpu ?? false,
      combine: options.combine ?? "auto",
      kvDtype,
      calibration,
      blockSize,
      interleave: options.interleave ?? 1,
      numBlocks,
      maxStepTokens,
      maxLogitRows,
      prefillChunk,
    };
    const world = await openWorld<Program>({
      size,
      program: new URL("./rank-program.ts", import.meta.url),
      options: rankOptions,
      heapBytesPerRank: heapBytesPerRank(config, model.largestTensorBytes, cache),
      groups: { dcp: parallelGroups({ layout: "classic", tp: size, dcp }).dcp, gpu: gpuGroups(size, gpus) },
      heapBytesHost: (1 << 20) + 8 * tokensPerCall(maxLogitRows),
      startDeadlineMs: 300_000,
      deadlineMs: options.deadlineMs ?? 120_000,
    });
    try {
      return new Generator(world, rankOptions, texts, maxDraft);
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /**
   * Continues a text greedily, yielding each token as soon as it is known. A new text: what came before is forgotten.
   */
  async *generate(prompt: readonly number[], options: GenerateOptions): AsyncGenerator<number, void> {
    for await (const { token } of this.generateAll([prompt], options)) yield token;
  }

  /**
   * Continues several texts at once, each as it would be alone: all those that are not done take part in every step.
   * Yields each token, with the number of its text, as soon as it is known. What came before is forgotten. Calls that
   * overlap run one after another, in the order in which their first tokens were asked for, and make their tokens
   * whether or not somebody takes them.
   */
  async *generateAll(
    prompts: readonly (readonly number[])[],
    { maxTokens, endTokens = [], onPrefill, explain }: GenerateOptions,
  ): AsyncGenerator<TextToken, void> {
    const name = "Generator.generateAll";
    this.#expectOpen(name);
    if (prompts.length < 1 || prompts.length > this.#texts) {
      throw new ArgumentError(
        name,
        "prompts",
        `from 1 to ${this.#texts}, the texts it was opened for`,
        `${prompts.length}`,
      );
    }
    for (const [index, prompt] of prompts.entries()) {
      if (prompt.length === 0) throw new ArgumentError(name, `prompts[${index}]`, "at least one token", "none");
      checkIds(name, `prompts[${index}]`, prompt, this.#vocabularySize);
    }
    if (!Number.isInteger(maxTokens) || maxTokens < 1) {
      throw new ArgumentError(name, "maxTokens", "a positive integer", String(maxTokens));
    }
    const made: TextToken[] = [];
    let isDone = false;
    let isDropped = false;
    let wake = (): void => {};
    const running = this.#inTurn(name, async () => {
      for await (const token of this.#make(prompts, { maxTokens, endTokens, onPrefill, explain }, () => isDropped)) {
        made.push(token);
        wake();
      }
    });
    const end = running
      .catch(() => {})
      .then(() => {
        isDone = true;
        wake();
      });
    try {
      for (let taken = 0; ; ) {
        for (let token = made[taken]; token !== undefined; token = made[taken]) {
          taken++;
          yield token;
        }
        if (isDone) break;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      await running;
    } finally {
      isDropped = true;
      await end;
    }
  }

  /** Makes the tokens of checked texts, until all are done or nobody wants them any more. */
  async *#make(
    prompts: readonly (readonly number[])[],
    { maxTokens, endTokens, onPrefill, explain }: MakeOptions,
    isDropped: () => boolean,
  ): AsyncGenerator<TextToken, void> {
    if (isDropped()) return;
    const texts = prompts.map((prompt) => ({ prompt, maxTokens }));
    const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
    const batchOptions = {
      endTokens,
      maxStepTokens: this.#maxStepTokens,
      prefillChunk: this.#prefillChunk,
      maxDraft: this.#maxDraft,
    };
    await this.#world.call("begin", [texts, batchOptions, explain]);
    for (let isDone = false, promptDone = 0; !isDone && !isDropped(); ) {
      this.#stream.clear();
      // Step by step at first, so that the caller hears of long prompts.
      const steps = promptDone < promptTokens ? 1 : STEPS_PER_CALL;
      const answer = this.#world.call("advance", [steps, this.#stream.descriptor]);
      yield* this.#stream.read(answer);
      const [state] = await answer;
      isDone = state?.isDone ?? true;
      if (promptDone < promptTokens) onPrefill?.(state?.promptTokensDone ?? 0);
      promptDone = state?.promptTokensDone ?? 0;
    }
  }

  /**
   * Starts a new text with a prompt; returns the token that follows.
   * @param onPrefill told how many tokens of the prompt have been computed
   */
  async prefill(prompt: readonly number[], onPrefill?: (done: number) => void): Promise<number> {
    const name = "Generator.prefill";
    this.#expectOpen(name);
    if (prompt.length === 0) throw new ArgumentError(name, "prompt", "at least one token", "none");
    checkIds(name, "prompt", prompt, this.#vocabularySize);
    return await this.#inTurn(name, async () => {
      await this.#world.call("restart", []);
      const most = Math.min(this.#prefillChunk ?? this.#maxStepTokens, this.#maxStepTokens);
      let token = -1;
      for (let done = 0; done < prompt.length; ) {
        const part = prompt.slice(done, done + most);
        token = await this.#step(part, this.#prefillChunk !== undefined);
        done += part.length;
        onPrefill?.(done);
      }
      return token;
    });
  }

  /**
   * Appends tokens to the current text; returns the token that follows.
   * @param ids from 1 to maxStepTokens ids of the vocabulary
   */
  async step(ids: readonly number[]): Promise<number> {
    const name = "Generator.step";
    this.#expectOpen(name);
    checkIds(name, "ids", ids, this.#vocabularySize);
    if (ids.length < 1 || ids.length > this.#maxStepTokens) {
      throw new ArgumentError(name, "ids", `from 1 to ${this.#maxStepTokens} tokens`, `${ids.length}`);
    }
    return await this.#inTurn(name, () => this.#step(ids, false));
  }

  async #step(ids: readonly number[], isPrefill: boolean): Promise<number> {
    const [token = -1] = await this.#world.call("step", [ids, isPrefill]);
    return token;
  }

  /** Logits of the last {@link step}, of the whole vocabulary. */
  async logits(): Promise<Float32Array> {
    this.#expectOpen("Generator.logits");
    const parts = await this.#world.call("logits", []);
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** The step that generateAll was asked to explain; undefined when the texts ended before it. */
  async explain(): Promise<Explanation | undefined> {
    this.#expectOpen("Generator.explain");
    const traces = (await this.#world.call("trace", [])).filter((trace) => trace !== undefined);
    return traces.length === 0 ? undefined : explainStep(traces, this.sizes.dcp);
  }

  /** What each rank did and holds. */
  async metrics(): Promise<RankMetrics[]> {
    this.#expectOpen("Generator.metrics");
    return await this.#world.call("metrics", []);
  }

  /** Overwrites one rank's KV shard with zeros. */
  async eraseCache(rank: number): Promise<void> {
    this.#expectOpen("Generator.eraseCache");
    await this.#world.callRank(rank, "eraseCache", []);
  }

  /** Idempotent. Calls under way fail. */
  close(): Promise<void> {
    this.#closed = true;
    return this.#world.close();
  }

  /** Runs what changes the texts once all that was asked for before is over, well or not. */
  #inTurn<T>(operation: string, action: () => Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(() => {
      this.#expectOpen(operation);
      return action();
    });
    this.#lastTurn = turn.catch(() => {});
    return turn;
  }

  #expectOpen(operation: string): void {
    if (this.#closed) throw new ResourceClosed(operation, "the generator", "Open another.");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Tokens that the ranks make at most between two answers. */
function tokensPerCall(maxLogitRows: number): number {
  return STEPS_PER_CALL * maxLogitRows;
}

function checkCounts(options: GeneratorOptions): void {
  for (const [name, least] of [
    ["world", 1],
    ["dcp", 1],
    ["capacity", 1],
    ["blockSize", 1],
    ["interleave", 1],
    ["gpus", 1],
    ["texts", 1],
    ["maxDraft", 0],
    ["prefillChunk", 1],
    ["maxStepTokens", 1],
  ] as const) {
    const value = options[name];
    if (value === undefined || (Number.isInteger(value) && value >= least && value < 2 ** 31)) continue;
    throw new ArgumentError("Generator.open", name, `an integer from ${least} to ${2 ** 31 - 1}`, describeJson(value));
  }
}

/** True when the KV cache is quantised by static scales. */
function checkScales({ kvDtype = "f32", kvScales }: GeneratorOptions): boolean {
  const isQuantised = isQuantisedKv(kvDtype);
  const isKnown = kvScales === undefined || kvScales === "per-token" || kvScales === "static";
  if (isKnown && (isQuantised || kvScales === undefined)) return kvScales === "static";
  const expected = isQuantised ? '"per-token" or "static"' : `left out for a kvDtype of ${kvDtype}`;
  throw new ArgumentError("Generator.open", "kvScales", expected, describeJson(kvScales));
}

function checkIds(operation: string, argument: string, ids: readonly number[], vocabularySize: number): void {
  const unknown = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (unknown === undefined) return;
  throw new ArgumentError(operation, argument, `from 0 to ${vocabularySize - 1}`, String(unknown));
}
