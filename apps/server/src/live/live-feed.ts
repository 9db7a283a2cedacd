import { performance } from "node:perf_hooks";
import type { TextEngine } from "@lockstep/language-model";
import type { Activity } from "../activity.ts";
import { flightMessage } from "./flight-message.ts";
import type { FlightMessage, HelloMessage, LiveMessages, StatusMessage } from "./live-messages.ts";
import { stepMessage } from "./step-message.ts";
import { StuckWatch } from "./stuck-watch.ts";
import { TokenBatch } from "./token-batch.ts";
import { Watcher } from "./watcher.ts";

/** How often what is told. All in milliseconds. */
export interface LiveIntervals {
  /** From one "tokens" to the next. */
  readonly tokensMs: number;
  /** From one "status" to the next, if it changed. */
  readonly statusMs: number;
  /** From one "status" to the next, if nothing changed: it shows that the stream lives. */
  readonly heartbeatMs: number;
  /** From one "step" to the next, at least: explaining a step takes time from those who are served. */
  readonly stepMs: number;
  /** Without a step while requests are computed, until "flight" is told, and from then on between them. */
  readonly stuckMs: number;
  /** Until the stream of a watcher who takes nothing is ended. */
  readonly silentMs: number;
}

export const LIVE_INTERVALS: LiveIntervals = {
  tokensMs: 100,
  statusMs: 500,
  heartbeatMs: 5_000,
  stepMs: 500,
  stuckMs: 3_000,
  silentMs: 30_000,
};

/** What a feed tells about, and to how many. */
export interface LiveFeedOptions {
  readonly engine: TextEngine;
  readonly activity: Activity;
  readonly hello: HelloMessage;
  /** Text of a token. */
  readonly textOf: (token: number) => string;
  /** Most watchers at once. */
  readonly mostWatchers: number;
  readonly intervals?: LiveIntervals;
}

/** Tells watchers what an engine does. Nothing runs while nobody watches. */
export class LiveFeed {
  readonly #options: LiveFeedOptions;
  readonly #intervals: LiveIntervals;
  readonly #watchers = new Set<Watcher>();
  readonly #batch: TokenBatch;
  #stop: (() => void) | undefined;
  #isClosed = false;

  constructor(options: LiveFeedOptions) {
    this.#options = options;
    this.#intervals = options.intervals ?? LIVE_INTERVALS;
    this.#batch = new TokenBatch(options.hello.texts === "all" ? options.textOf : () => "");
  }

  /** Watchers at the moment. */
  get watchers(): number {
    return this.#watchers.size;
  }

  /** A stream of server-sent events for one more watcher; undefined when there are too many, or the feed is closed. */
  watch(): ReadableStream<Uint8Array> | undefined {
    if (this.#isClosed || this.#watchers.size >= this.#options.mostWatchers) return undefined;
    const now = performance.now();
    const watcher = new Watcher((gone) => this.#forget(gone), now);
    this.#watchers.add(watcher);
    watcher.send("hello", this.#options.hello, now);
    watcher.send("status", statusMessage(this.#options.engine, now), now);
    this.#stop ??= this.#start();
    return watcher.body;
  }

  /** Ends all streams, and takes no more watchers. Idempotent. */
  close(): void {
    this.#isClosed = true;
    for (const watcher of [...this.#watchers]) watcher.end();
  }

  #forget(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    if (this.#watchers.size > 0) return;
    this.#stop?.();
    this.#stop = undefined;
  }

  /** Starts all that runs while somebody watches. Returns what stops it. */
  #start(): () => void {
    const ends = new AbortController();
    const unsubscribe = this.#options.activity.subscribe((event) => this.#batch.add(event));
    const timers = [
      setInterval(() => this.#tellTokens(), this.#intervals.tokensMs),
      setInterval(this.#statusTeller(), this.#intervals.statusMs),
    ];
    void this.#tellSteps(ends.signal);
    return () => {
      ends.abort();
      unsubscribe();
      for (const timer of timers) clearInterval(timer);
      this.#batch.clear();
    };
  }

  #tell<Name extends keyof LiveMessages>(name: Name, message: LiveMessages[Name]): void {
    const now = performance.now();
    for (const watcher of [...this.#watchers]) {
      watcher.send(name, message, now);
      if (watcher.silentMs(now) > this.#intervals.silentMs) watcher.end();
    }
  }

  #tellTokens(): void {
    const message = this.#batch.take();
    if (message !== undefined) this.#tell("tokens", message);
  }

  /** Tells the status if it changed or nothing was told for long, and what the ranks do when they are stuck. */
  #statusTeller(): () => void {
    const stuck = new StuckWatch(this.#intervals.stuckMs);
    let toldStatus = "";
    let statusAt = performance.now();
    let flightAt = Number.NEGATIVE_INFINITY;
    return () => {
      const now = performance.now();
      const status = this.#options.engine.status();
      const text = JSON.stringify([status, this.#options.engine.ranks]);
      if (text !== toldStatus || now - statusAt >= this.#intervals.heartbeatMs) {
        toldStatus = text;
        statusAt = now;
        this.#tell("status", statusMessage(this.#options.engine, now));
      }
      const stuckMs = Math.round(stuck.stuckMs(status, now));
      if (stuckMs === 0) {
        if (flightAt !== Number.NEGATIVE_INFINITY) this.#tell("flight", { stuckMs: 0, groups: [] });
        flightAt = Number.NEGATIVE_INFINITY;
      } else if (now - flightAt >= this.#intervals.stuckMs) {
        flightAt = now;
        this.#tell("flight", this.#flight(stuckMs));
      }
    };
  }

  #flight(stuckMs: number): FlightMessage {
    try {
      return flightMessage(this.#options.engine.flightRecord(), stuckMs);
    } catch (error) {
      return { stuckMs, groups: [], problem: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Explains steps, one after another, until `ends`. */
  async #tellSteps(ends: AbortSignal): Promise<void> {
    const { engine } = this.#options;
    while (!ends.aborted) {
      const pause = wait(this.#intervals.stepMs, ends);
      if (engine.status().state === "ready") {
        try {
          const step = await engine.explainStep(this.#intervals.stepMs);
          if (step !== undefined && !ends.aborted) this.#tell("step", stepMessage(step));
        } catch {
          // The ranks failed, or the engine is closed: "status" tells.
        }
      }
      await pause;
    }
  }
}

function statusMessage(engine: TextEngine, atMs: number): StatusMessage {
  const { totals, ...status } = engine.status();
  const { steps, promptTokens, cachedTokens, generatedTokens, preemptions, restarts } = totals;
  return {
    ...status,
    ranks: engine.ranks,
    steps,
    promptTokens,
    cachedTokens,
    generatedTokens,
    preemptions,
    restarts,
    atMs,
  };
}

/** Resolves after a time, or when `ends` aborts. */
function wait(milliseconds: number, ends: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      ends.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    ends.addEventListener("abort", done);
  });
}
