import type { MethodsOf, World } from "@lockstep/dist-groups";
import { ArgumentError, ResourceClosed } from "@lockstep/tensor";
import type { Model } from "../model/model.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import { checkWorlds, chooseWorld, type WorldChoice } from "./choose-world.ts";
import { type Explanation, explainStep } from "./explanation.ts";
import {
  checkGenerateOptions,
  checkOnPrefill,
  checkPrompt,
  checkPrompts,
  type GenerateOptions,
} from "./generate-options.ts";
import type { GeneratorOptions, SizedOptions } from "./generator-options.ts";
import { hostHeapBytes, STEPS_PER_CALL } from "./memory-plan.ts";
import { sharesOf } from "./kv-shares.ts";
import { openRanks } from "./open-ranks.ts";
import type { RankMetrics } from "./rank-program.ts";
import { type ResolvedOptions, resolveOptions } from "./resolve-options.ts";
import { runAhead } from "./run-ahead.ts";
import { checkTokenIds } from "./token-ids.ts";
import { type TextToken, TokenStream } from "./token-stream.ts";
import { spreadOptions } from "./world-candidates.ts";

type Program = typeof import("./rank-program.ts");
/** The ranks of a generator, and what the host may call on them. */
type GeneratorRanks = World<MethodsOf<Program>>;

interface MakeOptions {
  readonly maxTokens: number;
  readonly endTokens: readonly number[];
  readonly onPrefill: GenerateOptions["onPrefill"];
  readonly explain: GenerateOptions["explain"];
}

/** A model on a world of ranks that continues texts. */
export class Generator implements AsyncDisposable {
  /** Ranks, and how they share KV caches. */
  readonly sizes: ParallelSizes;
  /** Why it has these sizes, when its `world` was to be "auto"; undefined when it was given. */
  readonly choice: WorldChoice | undefined;
  /** KV blocks, of which each rank stores its share. */
  readonly blocksPerRank: number;
  /** Shares of the KV cache that the ranks of a DCP group store, in their order; 1 each where they are equal. */
  readonly kvWeights: readonly number[];
  readonly #world: GeneratorRanks;
  readonly #maxStepTokens: number;
  readonly #prefillChunk: number | undefined;
  readonly #vocabularySize: number;
  readonly #texts: number;
  readonly #maxDraft: number;
  readonly #stream: TokenStream;
  /** Settles when what changes the texts, and was asked for last, is over. */
  #lastTurn: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(
    world: GeneratorRanks,
    { rank, texts, maxDraft }: ResolvedOptions,
    choice: WorldChoice | undefined,
  ) {
    this.#world = world;
    this.choice = choice;
    this.#texts = texts;
    this.#maxDraft = maxDraft;
    this.#prefillChunk = rank.prefillChunk;
    this.sizes = rank.sizes;
    this.blocksPerRank = rank.numBlocks;
    this.kvWeights = sharesOf(rank.kvWeights, rank.sizes.dcp);
    this.#maxStepTokens = rank.maxStepTokens;
    this.#vocabularySize = rank.config.vocabularySize;
    this.#stream = TokenStream.create(world.heap, tokensPerCall(rank.maxLogitRows));
  }

  /** Throws what {@link Generator.open} would throw of these options before any rank starts. Opens nothing. */
  static check(model: Model, options: GeneratorOptions): void {
    if (isSized(options)) resolveOptions(model, options);
    else checkWorlds(model, options);
  }

  /**
   * Opens a world whose ranks have loaded their share of the model; a `world` of "auto" is chosen before
   * ({@link chooseWorld}).
   * Throws {@link UnfitOptions} for sizes that cannot run it, ArgumentError for workers that run another program,
   * and whatever stopped a rank.
   */
  static async open(model: Model, options: GeneratorOptions): Promise<Generator> {
    if (isSized(options)) return await Generator.#open(model, options, undefined);
    const choice = await chooseWorld(model, options);
    return await Generator.#open(model, spreadOptions(options, choice.sizes), choice);
  }

  static async #open(model: Model, options: SizedOptions, choice: WorldChoice | undefined): Promise<Generator> {
    const spread = resolveOptions(model, options);
    const world = await openRanks<Program>(spread, {
      program: new URL("./rank-program.ts", import.meta.url),
      options: spread.rank,
      heapBytes: hostHeapBytes(spread.rank.maxLogitRows),
      identify: (opened) => opened.call("identify", []),
    });
    try {
      return new Generator(world, spread, choice);
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
    options: GenerateOptions,
  ): AsyncGenerator<TextToken, void> {
    const name = "Generator.generateAll";
    this.#expectOpen(name);
    checkPrompts(name, prompts, this.#texts, this.#vocabularySize);
    checkGenerateOptions(name, options);
    const { maxTokens, endTokens = [], onPrefill, explain } = options;
    yield* runAhead<TextToken>((put, isDropped) =>
      this.#inTurn(name, async () => {
        for await (const token of this.#make(prompts, { maxTokens, endTokens, onPrefill, explain }, isDropped)) {
          put(token);
        }
      }),
    );
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
    checkPrompt(name, "prompt", prompt, this.#vocabularySize);
    checkOnPrefill(name, onPrefill);
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
    checkTokenIds(name, "ids", ids, this.#vocabularySize);
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

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Tokens that the ranks make at most between two answers. */
function tokensPerCall(maxLogitRows: number): number {
  return STEPS_PER_CALL * maxLogitRows;
}

/** Whether the number of ranks is given, or whatever stands in its place. */
function isSized(options: GeneratorOptions): options is SizedOptions {
  return (options as GeneratorOptions | undefined)?.world !== "auto";
}
