import type { AbortSignalLike } from "@lockstep/dist-groups";
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
import type { GeneratorOptions } from "./generator-options.ts";
import { GeneratorRanks, isSized, moveTexts, openBeside, resolveWorld } from "./generator-ranks.ts";
import { STEPS_PER_CALL } from "./memory-plan.ts";
import { sharesOf } from "./kv-shares.ts";
import { checkResizeSignal, type ResizeChanges, type ResizeOptions } from "./resize-options.ts";
import type { RankMetrics } from "./rank-program.ts";
import { resolveOptions } from "./resolve-options.ts";
import { runAhead } from "./run-ahead.ts";
import { checkTokenIds } from "./token-ids.ts";
import type { TextToken } from "./token-stream.ts";

const NONE = { logits: undefined, explanation: undefined } as const;

interface MakeOptions {
  readonly maxTokens: number;
  readonly endTokens: readonly number[];
  readonly onPrefill: GenerateOptions["onPrefill"];
  readonly explain: GenerateOptions["explain"];
}

/** A model on a world of ranks that continues texts. */
export class Generator implements AsyncDisposable {
  readonly #model: Model;
  #ranks: GeneratorRanks;
  /** Settles when what changes the texts, and was asked for last, is over. */
  #lastTurn: Promise<unknown> = Promise.resolve();
  /** What is to be done between two steps, in the middle of texts as well. */
  readonly #betweenSteps: (() => Promise<void>)[] = [];
  /** Of a step of ranks that are gone. */
  #earlier: { readonly logits: Float32Array | undefined; readonly explanation: Explanation | undefined } = NONE;
  #closed = false;

  private constructor(model: Model, ranks: GeneratorRanks) {
    this.#model = model;
    this.#ranks = ranks;
  }

  get #world(): GeneratorRanks["world"] {
    return this.#ranks.world;
  }

  /** Ranks, and how they share KV caches. */
  get sizes(): ParallelSizes {
    return this.#ranks.rank.sizes;
  }

  /** Why it has these sizes, when its `world` was to be "auto"; undefined when it was given. */
  get choice(): WorldChoice | undefined {
    return this.#ranks.choice;
  }

  /** KV blocks, of which each rank stores its share. */
  get blocksPerRank(): number {
    return this.#ranks.rank.numBlocks;
  }

  /** Shares of the KV cache that the ranks of a DCP group store, in their order; 1 each where they are equal. */
  get kvWeights(): readonly number[] {
    return sharesOf(this.#ranks.rank.kvWeights, this.sizes.dcp);
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
    const { resolved, choice } = await resolveWorld(model, options);
    return new Generator(model, await GeneratorRanks.open(options, resolved, choice));
  }

  /**
   * Goes on with another number of ranks, or another layout: texts that are under way, in the middle of
   * {@link Generator.generateAll} as well, go on with the tokens that they would have had, up to what another order of
   * sums does to the last digits of logits. Other ranks are opened beside these, and all that these have stored moves
   * there: nothing is computed again. These go on when the others do not open, or the context does not move; memory must
   * hold both meanwhile. {@link Generator.metrics} begin anew.
   *
   * Static scales of a quantised cache that a sample decides (`kvScales`) are found anew: where the others find other
   * ones, as another order of sums may, it is refused with MoveFailed.
   * @param changes options of {@link Generator.open} that become others; what is left out stays as it is
   * @throws as `open`, also for what memory does not hold; MoveFailed; the signal's reason; ResourceClosed
   */
  async resize(changes: Omit<ResizeChanges, "kvTokens">, { signal }: ResizeOptions = {}): Promise<void> {
    const name = "Generator.resize";
    this.#expectOpen(name);
    checkResizeSignal(name, signal);
    const done = Promise.withResolvers<void>();
    this.#betweenSteps.push(async () => {
      const resizing = this.#resize(changes, signal);
      done.resolve(resizing);
      await resizing.catch(() => {});
    });
    // Where texts are under way it comes before their next steps; otherwise it is the next turn.
    this.#inTurn(name, () => this.#runBetweenSteps()).catch((error: unknown) => done.reject(error));
    await done.promise;
  }

  async #resize(changes: Omit<ResizeChanges, "kvTokens">, signal: AbortSignalLike | undefined): Promise<void> {
    const name = "Generator.resize";
    this.#expectOpen(name);
    if (signal?.aborted === true) throw signal.reason;
    const before = this.#ranks;
    const others = await openBeside(this.#model, before, changes);
    try {
      const { hasLogits } = await before.world.callRank(0, "texts", []);
      const earlier = {
        logits: hasLogits ? await this.logits() : this.#earlier.logits,
        explanation: await this.explain(),
      };
      await moveTexts(before, others, signal);
      this.#expectOpen(name);
      this.#ranks = others;
      this.#earlier = earlier;
    } catch (error) {
      await others.world.close().catch(() => {});
      throw error;
    }
    // What a world's end complains of concerns nobody any more.
    await before.world.close().catch(() => {});
  }

  async #runBetweenSteps(): Promise<void> {
    for (let task = this.#betweenSteps.shift(); task !== undefined; task = this.#betweenSteps.shift()) await task();
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
    checkPrompts(name, prompts, this.#ranks.resolved.texts, this.#vocabularySize);
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
    const { maxDraft, rank } = this.#ranks.resolved;
    const { maxStepTokens, prefillChunk } = rank;
    const batchOptions = { endTokens, maxStepTokens, prefillChunk, maxDraft };
    this.#earlier = NONE;
    await this.#world.call("begin", [texts, batchOptions, explain]);
    for (let isDone = false, promptDone = 0; !isDone && !isDropped(); ) {
      await this.#runBetweenSteps();
      const { stream } = this.#ranks;
      stream.clear();
      // Step by step at first, so that the caller hears of long prompts.
      const steps = promptDone < promptTokens ? 1 : STEPS_PER_CALL;
      const answer = this.#world.call("advance", [steps, stream.descriptor]);
      yield* stream.read(answer);
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
      this.#earlier = NONE;
      await this.#world.call("restart", []);
      const { maxStepTokens, prefillChunk } = this.#ranks.rank;
      const most = Math.min(prefillChunk ?? maxStepTokens, maxStepTokens);
      let token = -1;
      for (let done = 0; done < prompt.length; ) {
        const part = prompt.slice(done, done + most);
        await this.#runBetweenSteps();
        token = await this.#step(part, prefillChunk !== undefined);
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
    const { maxStepTokens } = this.#ranks.rank;
    if (ids.length < 1 || ids.length > maxStepTokens) {
      throw new ArgumentError(name, "ids", `from 1 to ${maxStepTokens} tokens`, `${ids.length}`);
    }
    return await this.#inTurn(name, () => this.#step(ids, false));
  }

  get #vocabularySize(): number {
    return this.#ranks.rank.config.vocabularySize;
  }

  async #step(ids: readonly number[], isPrefill: boolean): Promise<number> {
    this.#earlier = { ...this.#earlier, logits: undefined };
    const [token = -1] = await this.#world.call("step", [ids, isPrefill]);
    return token;
  }

  /** Logits of the last {@link step}, of the whole vocabulary. */
  async logits(): Promise<Float32Array> {
    this.#expectOpen("Generator.logits");
    if (this.#earlier.logits !== undefined) return this.#earlier.logits.slice();
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
    return traces.length === 0 ? this.#earlier.explanation : explainStep(traces, this.sizes.dcp);
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
