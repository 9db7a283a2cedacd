import type { FlightRecord } from "@lockstep/dist-groups";
import { ArgumentError, describe, ResourceClosed } from "@lockstep/tensor";
import { EngineBusy, PrefixStoreError, UnfitOptions } from "../errors.ts";
import { blockTokens } from "../generation/kv-blocks.ts";
import { isSignal } from "../generation/is-signal.ts";
import { sharesOf } from "../generation/kv-shares.ts";
import {
  checkResizeSignal,
  type ResizeChanges,
  type ResizeOptions,
  resizedOptions,
} from "../generation/resize-options.ts";
import { explainStep } from "../generation/explanation.ts";
import { RESIZE_ADVICE, resizePeak } from "../generation/plan-resize.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import type { Model } from "../model/model.ts";
import { resolveSampling } from "../sampling/sampling-options.ts";
import { checkpointFingerprint } from "./checkpoint-fingerprint.ts";
import { EngineLoop } from "./engine-loop.ts";
import type { EngineOptions } from "./engine-options.ts";
import { EngineRequest } from "./engine-request.ts";
import type { PrefixPlace } from "./engine-program.ts";
import type { EngineStatus } from "./engine-status.ts";
import { promptTokens } from "./prompt-tokens.ts";
import type { GeneratedPart, Prompt, RequestOptions } from "./request-options.ts";
import { type EngineSizes, resolveEngineOptions } from "./resolve-engine-options.ts";
import { resumeOnOthers } from "./resumed-ranks.ts";
import { ServingRanks } from "./serving-ranks.ts";
import type { EngineStep, TextEngine } from "./text-engine.ts";
import { TextStream } from "./text-stream.ts";

const NAME = "Engine.generate";

/** What an engine's ranks are opened with, now and after they failed. */
interface Current {
  engine: EngineSizes;
  options: EngineOptions;
}

/**
 * A model that serves many requests at once, on ranks that share its weights and its KV cache. Requests join and leave
 * between steps; texts that begin alike share what was computed. A text depends on its own request alone: the same
 * prompt, options and seed give the same tokens whatever else is computed beside it.
 */
export class Engine implements TextEngine {
  readonly hasChat: boolean;
  readonly #model: Model;
  readonly #current: Current;
  readonly #loop: EngineLoop;
  readonly #place: PrefixPlace | undefined;
  #nextId = 0;
  #isDraining = false;

  private constructor(model: Model, current: Current, loop: EngineLoop, place: PrefixPlace | undefined) {
    this.#place = place;
    this.#model = model;
    this.#current = current;
    this.#loop = loop;
    this.hasChat = model.chatTemplate !== undefined;
  }

  /**
   * Opens ranks that have loaded their share of the model; a `world` of "auto" is chosen before.
   * @throws ArgumentError, UnfitOptions for options that do not fit the model or this machine; PrefixStoreError for
   *   saved beginnings that cannot be used; whatever stopped a rank
   */
  static async open(model: Model, options: EngineOptions): Promise<Engine> {
    const engine = await resolveEngineOptions(model, options);
    const { prefixFolder: folder, prefixBytes: mostBytes } = engine;
    const place =
      folder === undefined ? undefined : { folder, mostBytes, checkpoint: await checkpointFingerprint(model.source) };
    const ranks = await openServing(engine, place, () => false);
    // Saved beginnings that have become useless meanwhile are no reason not to serve.
    const current = { engine, options };
    const reopen = (): Promise<ServingRanks> =>
      openServing(current.engine, place, (error) => error instanceof PrefixStoreError);
    return new Engine(model, current, new EngineLoop(ranks, reopen, engine.maxRestarts), place);
  }

  get maxContext(): number {
    return this.#engine.maxContext;
  }

  /** Ranks, and how they share KV caches. */
  get sizes(): ParallelSizes {
    return this.#engine.resolved.rank.sizes;
  }

  get #engine(): EngineSizes {
    return this.#current.engine;
  }

  get ranks(): number {
    return this.sizes.world;
  }

  generate(prompt: Prompt, options: RequestOptions = {}): AsyncGenerator<GeneratedPart, void, void> {
    this.#expectOpen(NAME);
    if (typeof options !== "object" || options === null) {
      throw new ArgumentError(NAME, "options", "an object", describe(options));
    }
    const { ignoreEnd = false, stop = [], signal } = options;
    if (typeof ignoreEnd !== "boolean")
      throw new ArgumentError(NAME, "ignoreEnd", "true or false", describe(ignoreEnd));
    if (signal !== undefined && !isSignal(signal)) {
      throw new ArgumentError(NAME, "signal", "an AbortSignal", describe(signal));
    }
    checkLabel(options.label);
    const sampling = resolveSampling(NAME, options);
    const ids = promptTokens(NAME, this.#model, prompt, this.maxContext);
    const maxTokens = this.#maxTokens(ids.length, options.maxTokens);
    const request = new EngineRequest({
      id: this.#nextId,
      prompt: ids,
      maxTokens,
      sampling,
      endTokens: ignoreEnd ? [] : this.#model.config.endTokens,
      text: new TextStream(this.#model.tokenizer, ids, stop, NAME),
      label: options.label,
      signal,
      onDrop: (dropped) => this.#loop.cancel(dropped),
    });
    if (signal?.aborted === true) {
      request.fail(signal.reason);
      return request;
    }
    const { maxRunning, maxWaiting } = this.#engine;
    if (this.#loop.size >= maxRunning + maxWaiting) {
      this.#loop.totals.refused++;
      throw new EngineBusy(maxRunning + maxWaiting, this.#loop.betweenEndsMs);
    }
    this.#loop.submit(request);
    request.followSignal();
    this.#nextId++;
    return request;
  }

  status(): EngineStatus {
    const { rank } = this.#engine.resolved;
    const { numBlocks: total } = rank;
    const { state, size, running, freeBlocks = { free: total, known: 0 }, totals } = this.#loop;
    return {
      state,
      running,
      waiting: size - running,
      blocks: { total, used: total - freeBlocks.free, cached: freeBlocks.known },
      blockTokens: blockTokens(rank),
      rankBlockTokens: sharesOf(rank.kvWeights, rank.sizes.dcp).map((weight) => weight * rank.blockSize),
      totals: { ...totals },
    };
  }

  async explainStep(waitMs = 1000): Promise<EngineStep | undefined> {
    this.#expectOpen("Engine.explainStep");
    if (typeof waitMs !== "number" || !(waitMs >= 0 && waitMs <= 600_000)) {
      throw new ArgumentError("Engine.explainStep", "waitMs", "from 0 to 600000 milliseconds", describe(waitMs));
    }
    const given = await this.#loop.trace(waitMs);
    if (given === undefined) return undefined;
    const { traced, labels } = given;
    const [first] = traced;
    if (first === undefined) return undefined;
    const slowest = (part: "stepMs" | "gatherMs" | "attentionMs" | "combineMs"): number =>
      Math.max(...traced.map((rank) => rank[part]));
    return {
      explanation: explainStep(
        traced.map(({ trace }) => trace),
        this.sizes.dcp,
      ),
      requests: first.requests.map((request) => {
        const label = labels.get(request.text);
        return label === undefined ? request : { ...request, label };
      }),
      times: {
        stepMs: slowest("stepMs"),
        gatherMs: slowest("gatherMs"),
        attentionMs: slowest("attentionMs"),
        combineMs: slowest("combineMs"),
      },
    };
  }

  flightRecord(): FlightRecord {
    return this.#loop.flightRecord();
  }

  /** Ends one rank at once, as a crash would: for testing how a program takes it. */
  async terminateRank(rank: number): Promise<void> {
    this.#expectOpen("Engine.terminateRank");
    await this.#loop.terminateRank(rank);
  }

  /**
   * Saves what is known of texts to the `prefixFolder`, between two steps: the next engine over this checkpoint and
   * layout need not compute it again. Where `prefixBytes` do not suffice for all, those used last are saved. Nothing is
   * computed meanwhile.
   * @returns blocks that were saved
   * @throws ArgumentError without a prefixFolder; PrefixStoreError when it cannot be written; ResourceClosed
   */
  async savePrefixes(): Promise<number> {
    const operation = "Engine.savePrefixes";
    this.#expectOpen(operation);
    const place = this.#place;
    if (place === undefined) {
      throw new ArgumentError(operation, "prefixFolder", "given to Engine.open", "left out");
    }
    const { moved } = await this.#loop.between((ranks) => ranks.savePrefixes(place));
    return moved;
  }

  /**
   * Goes on with another number of ranks, or another layout, between two steps: requests under way get the tokens that
   * they would have got, up to what another order of sums does to the last digits of logits. Other ranks are opened
   * beside these, and all that these have stored moves there: nothing is computed again. Only where the others have
   * fewer blocks than requests hold, those that came last give theirs up and are computed again, as ever. These ranks
   * go on when the others do not open, or the context does not move.
   * Memory must hold both meanwhile: `planResize` says what they take, and where there is not so much it is refused
   * before anything is opened. Nothing is computed meanwhile.
   * @param changes options of {@link Engine.open} that become others; what is left out stays as it is
   * @throws as `open`, also when a text of `maxContext` tokens does not fit the others; MoveFailed; the signal's reason;
   *   ResourceClosed, RanksFailed
   */
  async resize(changes: ResizeChanges, { signal }: ResizeOptions = {}): Promise<void> {
    const operation = "Engine.resize";
    this.#expectOpen(operation);
    checkResizeSignal(operation, signal);
    const others = { ...resizedOptions(operation, this.#current.options, changes), maxContext: this.maxContext };
    const engine = await resolveEngineOptions(this.#model, others);
    const { problem } = resizePeak(this.#engine.resolved, engine.resolved);
    if (problem !== undefined) throw new UnfitOptions(`${problem}: ${RESIZE_ADVICE}.`, operation);
    await this.#loop.replace(async (ranks, requests) => {
      const resumed = await resumeOnOthers(ranks, engine, requests, signal);
      Object.assign(this.#current, { engine, options: others });
      return resumed;
    });
  }

  async drain(): Promise<void> {
    this.#isDraining = true;
    await this.#loop.empty();
  }

  close(): Promise<void> {
    return this.#loop.close();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #maxTokens(promptLength: number, wanted: number | undefined): number {
    const most = this.maxContext - promptLength;
    const maxTokens = wanted ?? most;
    if (!Number.isInteger(maxTokens) || maxTokens < 1) {
      throw new ArgumentError(NAME, "maxTokens", "a positive integer", describe(maxTokens));
    }
    if (maxTokens <= most) return maxTokens;
    const expected = `at most ${most}: the context holds ${this.maxContext} tokens, the prompt has ${promptLength}`;
    throw new ArgumentError(NAME, "maxTokens", expected, `${maxTokens}`);
  }

  #expectOpen(operation: string): void {
    if (this.#loop.state === "closed") throw new ResourceClosed(operation, "the engine", "Open another.");
    if (this.#isDraining && operation === NAME) {
      throw new ResourceClosed(operation, "the engine", "It ends what it has, and takes no more: open another.");
    }
  }
}

/** Opens ranks that answer, and loads what is saved; goes on without it where `mayFail` allows its error. */
async function openServing(
  engine: EngineSizes,
  place: PrefixPlace | undefined,
  mayFail: (error: unknown) => boolean,
): Promise<ServingRanks> {
  const ranks = await ServingRanks.open(engine);
  try {
    if (place !== undefined) {
      await ranks.loadPrefixes(place).catch((error: unknown) => {
        if (!mayFail(error)) throw error;
      });
    }
    await ranks.answer();
    return ranks;
  } catch (error) {
    await ranks.close();
    throw error;
  }
}

/** Characters: those of an HTTP request's id, and more. */
const LONGEST_LABEL = 256;

function checkLabel(label: string | undefined): void {
  if (label === undefined || (typeof label === "string" && label.length <= LONGEST_LABEL)) return;
  throw new ArgumentError(NAME, "label", `a name of up to ${LONGEST_LABEL} characters`, describe(label));
}
