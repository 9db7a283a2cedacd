// Keeps the ranks serving: gives them what changed, hears what they say, and opens them again when they fail.
import type { FlightRecord } from "@lockstep/dist-groups";
import { ResourceClosed } from "@lockstep/tensor";
import { RanksFailed } from "../errors.ts";
import type { FreeBlocks } from "./engine-program.ts";
import type { EngineRequest } from "./engine-request.ts";
import type { EngineStatus, EngineTotals } from "./engine-status.ts";
import { failedRanksOf } from "./failed-ranks.ts";
import type { ServeChanges, ServedTrace } from "./request-server.ts";
import type { ResumedRanks } from "./resumed-ranks.ts";
import type { ScheduledRequest } from "./scheduler.ts";
import type { ServeEvent } from "./serve-events.ts";
import type { ServingRanks } from "./serving-ranks.ts";
import { TimeBetweenEnds } from "./time-between-ends.ts";

/** So often ranks that have nothing to do are asked whether they are there, and so long they may take to say so. */
const [LOOK_AFTER_MS, ANSWER_WITHIN_MS] = [1000, 30_000];

/** Within so long `maxRestarts` are counted. */
const RESTARTS_WITHIN_MS = 60_000;

type Totals = { -readonly [K in keyof EngineTotals]: number };

/** A step that was taken down. */
export interface LoopTrace {
  /** As each rank saw it. */
  readonly traced: readonly ServedTrace[];
  /** Names of requests that were not over, by their numbers. */
  readonly labels: ReadonlyMap<number, string>;
}

/** The ranks of an engine, and its requests that are not over. */
export class EngineLoop {
  readonly #open: () => Promise<ServingRanks>;
  readonly #maxRestarts: number;
  #ranks: ServingRanks | undefined;
  #state: EngineStatus["state"] = "ready";
  /** Requests that are not over, in the order in which they came. */
  readonly #live = new Map<number, EngineRequest>();
  /** What the ranks have not been told. */
  #submit: EngineRequest[] = [];
  #cancel: number[] = [];
  /** What is to be done with the ranks while they do not serve. */
  #tasks: ((ranks: ServingRanks) => Promise<void>)[] = [];
  #traceWanted: ((trace: LoopTrace | undefined) => void)[] = [];
  #wake: (() => void) | undefined;
  readonly #emptied: (() => void)[] = [];
  readonly #restarts: number[] = [];
  /** Why the ranks are not opened again. */
  #failure: RanksFailed | undefined;
  #freeBlocks: FreeBlocks;
  /** Of ranks that are gone. */
  #earlierPreemptions = 0;
  readonly #betweenEnds = new TimeBetweenEnds();
  readonly #ended: Promise<void>;
  /** Rejects when there will be no ranks any more. */
  readonly #gone = Promise.withResolvers<never>();
  readonly totals: Totals = {
    steps: 0,
    requests: 0,
    finished: 0,
    cancelled: 0,
    failed: 0,
    refused: 0,
    promptTokens: 0,
    cachedTokens: 0,
    computedTokens: 0,
    generatedTokens: 0,
    preemptions: 0,
    restarts: 0,
    resizes: 0,
  };

  /**
   * @param ranks opened ones that have answered, which it owns from now on
   * @param open opens others like them
   */
  constructor(ranks: ServingRanks, open: () => Promise<ServingRanks>, maxRestarts: number) {
    this.#ranks = ranks;
    this.#freeBlocks = ranks.freeBlocks;
    this.#open = open;
    this.#maxRestarts = maxRestarts;
    this.#gone.promise.catch(() => {});
    this.#ended = this.#run();
  }

  get state(): EngineStatus["state"] {
    return this.#state;
  }

  /** Requests that are not over. */
  get size(): number {
    return this.#live.size;
  }

  /** Those of them that ranks compute. */
  get running(): number {
    let running = 0;
    for (const request of this.#live.values()) if (request.hasBegun) running++;
    return running;
  }

  /** Blocks that nobody holds, and those of them whose contents are known; undefined while there are no ranks. */
  get freeBlocks(): FreeBlocks | undefined {
    return this.#ranks === undefined ? undefined : this.#freeBlocks;
  }

  /** How long requests took of late, from the end of one to the end of the next: see {@link TimeBetweenEnds}. */
  get betweenEndsMs(): number {
    return this.#betweenEnds.meanMs;
  }

  /** Takes a request. */
  submit(request: EngineRequest): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.totals.requests++;
    if (this.#live.size === 0) this.#betweenEnds.began(performance.now());
    this.#live.set(request.id, request);
    this.#submit.push(request);
    this.#changed();
  }

  /** Forgets a request that nobody wants any more. */
  cancel(request: EngineRequest): void {
    if (this.#live.get(request.id) !== request) return;
    this.totals.cancelled++;
    this.#forget(request);
  }

  /** The next step, as every rank saw it; undefined when there is none in time, or the ranks fail. */
  trace(waitMs: number): Promise<LoopTrace | undefined> {
    const { promise, resolve } = Promise.withResolvers<LoopTrace | undefined>();
    const timer = setTimeout(() => give(undefined), waitMs);
    const give = (trace: LoopTrace | undefined): void => {
      clearTimeout(timer);
      this.#traceWanted = this.#traceWanted.filter((other) => other !== give);
      resolve(trace);
    };
    this.#traceWanted.push(give);
    this.#changed();
    return promise;
  }

  /**
   * Does something with the ranks between two steps of theirs.
   * @throws what `task` throws; ResourceClosed when the engine closes before, RanksFailed when it gives up
   */
  between<T>(task: (ranks: ServingRanks) => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<T>();
    this.#tasks.push(async (ranks) => {
      const done = task(ranks);
      resolve(done);
      await done.catch(() => {});
    });
    this.#changed();
    return Promise.race([promise, this.#gone.promise]);
  }

  /**
   * Puts other ranks in the place of these, between two steps: all requests go on there. Where `open` throws, these go
   * on.
   * @param open opens ranks that answer and go on with the requests that it is given, which are all that these ranks
   *   know of and that somebody wants; closing the ranks that it is given is not its part
   * @throws what `open` throws; ResourceClosed when the engine closes before, RanksFailed when it gives up
   */
  replace(open: (ranks: ServingRanks, requests: readonly ScheduledRequest[]) => Promise<ResumedRanks>): Promise<void> {
    return this.between(async (ranks) => {
      const told = [...this.#live.values()].filter((request) => !this.#submit.includes(request));
      const next = await open(
        ranks,
        told.map((request) => request.scheduled),
      );
      if (this.#ranks !== ranks || this.#state !== "ready") {
        await next.ranks.close();
        throw new ResourceClosed("Engine.resize", "the engine", "Open another.");
      }
      this.totals.resizes++;
      this.totals.preemptions += next.preempted;
      this.#takeOver(next.ranks);
      // What a world's end complains of concerns nobody any more.
      await ranks.close().catch(() => {});
    });
  }

  /** @throws ResourceClosed when there are no ranks */
  flightRecord(): FlightRecord {
    if (this.#ranks !== undefined && this.#state !== "closed") return this.#ranks.flightRecord();
    const isComing = this.#state === "restarting";
    throw new ResourceClosed(
      "Engine.flightRecord",
      "the world of the engine's ranks",
      isComing ? "They are opened again: ask later." : "Open another engine.",
    );
  }

  /** Resolves when no request is left. */
  empty(): Promise<void> {
    if (this.#live.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#emptied.push(resolve));
  }

  /** For tests of failures: ends one rank at once, as a crash would. */
  async terminateRank(rank: number): Promise<void> {
    await this.#ranks?.terminateRank(rank);
  }

  /** Ends all. Idempotent. */
  async close(): Promise<void> {
    if (this.#state !== "closed") {
      this.#state = "closed";
      for (const request of [...this.#live.values()]) {
        this.#fail(request, new ResourceClosed("Engine.generate", "the engine", "Open another."));
      }
      this.#giveTrace(undefined);
      this.#gone.reject(new ResourceClosed("Engine", "the engine", "Open another."));
      await this.#ranks?.close();
      this.#wake?.();
    }
    await this.#ended;
  }

  async #run(): Promise<void> {
    let isBusy = false;
    while (this.#state === "ready" && this.#ranks !== undefined) {
      const task = this.#tasks.shift();
      if (task !== undefined) {
        const before = this.#ranks;
        await task(before);
        // Others go on with what these were at.
        if (this.#ranks !== before) isBusy = true;
        continue;
      }
      const ranks = this.#ranks;
      if (!isBusy && !this.#hasChanges) {
        await this.#rest(ranks);
        continue;
      }
      let labels = new Map<number, string>();
      try {
        // Ranks may have died while nothing was asked of them: found out before they begin what would die with them.
        if (!isBusy) await ranks.answer();
        const state = await ranks.serve(
          () => {
            // Before the step, which may be the last of some.
            labels = this.#labels;
            return this.#takeChanges();
          },
          (events) => {
            for (const event of events) this.#hear(event);
          },
        );
        isBusy = state.isBusy;
        if (state.traced.length > 0) this.#giveTrace({ traced: state.traced, labels });
      } catch (error) {
        isBusy = false;
        await this.#recover(ranks, error);
      }
    }
  }

  /** Until there is something to do; looks after the ranks meanwhile, and opens others in the place of dead ones. */
  async #rest(ranks: ServingRanks): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const isWoken = await new Promise<boolean>((resolve) => {
      this.#wake = () => resolve(true);
      timer = setTimeout(() => resolve(false), LOOK_AFTER_MS);
    });
    clearTimeout(timer);
    this.#wake = undefined;
    if (isWoken) return;
    await ranks.answer(ANSWER_WITHIN_MS).catch((error: unknown) => this.#recover(ranks, error));
  }

  get #labels(): Map<number, string> {
    const labels = new Map<number, string>();
    if (this.#traceWanted.length === 0) return labels;
    for (const { id, label } of this.#live.values()) if (label !== undefined) labels.set(id, label);
    return labels;
  }

  get #hasChanges(): boolean {
    return this.#submit.length > 0 || this.#cancel.length > 0 || this.#tasks.length > 0;
  }

  #takeChanges(): ServeChanges {
    const changes = {
      submit: this.#submit.map((request) => request.scheduled),
      cancel: this.#cancel,
      trace: this.#traceWanted.length > 0,
    };
    this.#submit = [];
    this.#cancel = [];
    return changes;
  }

  /** Something is to be told to the ranks. */
  #changed(): void {
    this.#ranks?.interrupt();
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #hear(event: ServeEvent): void {
    if (event.kind === "step") {
      this.#freeBlocks = { free: event.freeBlocks, known: event.knownBlocks };
      this.totals.steps++;
      this.totals.computedTokens += event.computed;
      this.totals.preemptions = this.#earlierPreemptions + event.preemptions;
      return;
    }
    const request = this.#live.get(event.id);
    if (request === undefined) return;
    if (event.kind === "begun") {
      if (request.hasBegun) return;
      this.totals.promptTokens += request.promptTokens;
      this.totals.cachedTokens += event.cached;
      request.begin(event.cached);
      return;
    }
    this.totals.generatedTokens++;
    const mustStop = request.push(event.token, event.finish);
    if (request.isLive) return;
    this.totals.finished++;
    this.#betweenEnds.ended(performance.now());
    if (mustStop) this.#forget(request);
    else this.#remove(request);
  }

  /** Has the ranks forget a request that they may still compute. */
  #forget(request: EngineRequest): void {
    const untold = this.#submit.indexOf(request);
    if (untold >= 0) {
      this.#submit.splice(untold, 1);
    } else {
      this.#cancel.push(request.id);
      this.#changed();
    }
    this.#remove(request);
  }

  #fail(request: EngineRequest, error: Error): void {
    this.totals.failed++;
    request.fail(error);
    this.#remove(request);
  }

  #remove(request: EngineRequest): void {
    this.#live.delete(request.id);
    if (this.#live.size === 0) for (const resolve of this.#emptied.splice(0)) resolve();
  }

  #giveTrace(trace: LoopTrace | undefined): void {
    for (const give of [...this.#traceWanted]) give(trace);
  }

  /** Fails what the ranks were computing, and opens them again for all that waits. */
  async #recover(ranks: ServingRanks, error: unknown): Promise<void> {
    if (this.#state !== "ready") return;
    this.#state = "restarting";
    this.#ranks = undefined;
    const cause = error instanceof Error ? error : new Error(String(error));
    const failure = new RanksFailed(failedRanksOf(cause), cause);
    for (const request of [...this.#live.values()]) if (request.hasBegun) this.#fail(request, failure);
    this.#giveTrace(undefined);
    // Ranks that hang do not close by themselves. What a world's end complains of was said by the call that failed.
    await Promise.allSettled(failure.failedRanks.map((rank) => ranks.terminateRank(rank)));
    await ranks.close().catch(() => {});
    if (this.#mayRestart()) {
      const opened = await this.#open().catch((reason: unknown) => reason);
      await this.#goOnWith(opened, failure);
    } else {
      this.#giveUp(failure);
    }
  }

  #mayRestart(): boolean {
    const now = performance.now();
    while ((this.#restarts[0] ?? now) < now - RESTARTS_WITHIN_MS) this.#restarts.shift();
    if (this.#restarts.length >= this.#maxRestarts) return false;
    this.#restarts.push(now);
    return true;
  }

  async #goOnWith(opened: unknown, failure: RanksFailed): Promise<void> {
    const isOpen = typeof opened === "object" && opened !== null && "serve" in opened;
    if (!isOpen) {
      this.#giveUp(opened instanceof Error ? new RanksFailed(failedRanksOf(opened), opened) : failure);
      return;
    }
    const ranks = opened as ServingRanks;
    // Closed meanwhile: nobody else knows of these.
    if (this.#state !== "restarting") {
      await ranks.close();
      return;
    }
    this.totals.restarts++;
    this.#begin(ranks);
    this.#state = "ready";
  }

  /** Has ranks that know of nothing compute all requests. */
  #begin(ranks: ServingRanks): void {
    this.#cancel = [];
    this.#submit = [...this.#live.values()];
    this.#takeOver(ranks);
  }

  #takeOver(ranks: ServingRanks): void {
    this.#earlierPreemptions = this.totals.preemptions;
    this.#freeBlocks = ranks.freeBlocks;
    this.#ranks = ranks;
  }

  #giveUp(failure: RanksFailed): void {
    if (this.#state !== "restarting") return;
    this.#state = "failed";
    this.#failure = failure;
    this.#gone.reject(failure);
    for (const request of [...this.#live.values()]) this.#fail(request, failure);
  }
}
