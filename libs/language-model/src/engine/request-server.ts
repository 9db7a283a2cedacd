// What each rank of an engine does: steps over requests that come and go.
import type { RankModel } from "../generation/rank-model.ts";
import type { StepTrace } from "../generation/step-trace.ts";
import type { WordStream } from "../generation/word-stream.ts";
import type { ChosenToken } from "../sampling/row-request.ts";
import type { Sampler } from "../sampling/sampler.ts";
import { MOST_LOGPROBS } from "../sampling/sampling-options.ts";
import {
  type RunningText,
  type ScheduledItem,
  type ScheduledRequest,
  Scheduler,
  type SchedulerOptions,
} from "./scheduler.ts";
import { mostEventWords, writeEvent } from "./serve-events.ts";

/** What the host wants of ranks before they go on. Plain data. */
export interface ServeChanges {
  /** Requests to take, in the order of their numbers. */
  readonly submit: readonly ScheduledRequest[];
  /** Requests to forget. */
  readonly cancel: readonly number[];
  /** Whether the next step is to be taken down. */
  readonly trace: boolean;
}

/** A step that was taken down, as one rank saw it. Plain data. */
export interface ServedTrace {
  readonly trace: StepTrace;
  readonly requests: readonly { readonly text: number; readonly promptTokens: number; readonly length: number }[];
  readonly stepMs: number;
  readonly gatherMs: number;
  readonly attentionMs: number;
  readonly combineMs: number;
}

/** How ranks stand when they return to the host. Plain data. */
export interface ServeState {
  /** Whether there is more to compute. */
  readonly isBusy: boolean;
  /** The step that was to be taken down, unless there was none. */
  readonly traced: ServedTrace | undefined;
}

/** Where the host and rank 0 talk while ranks serve; other ranks have none. */
export interface HostLink {
  readonly events: WordStream;
  /** A shared word: not 0 when the ranks are wanted. */
  readonly interrupt: Int32Array;
}

/** After so long ranks return to the host, which calls them again: a call has a deadline, whatever it computes. */
export const SLICE_MS = 1000;

/** Serves requests on one rank. Every rank makes the same steps: rank 0 alone decides when they return to the host. */
export class RequestServer {
  readonly #model: RankModel;
  readonly #sampler: Sampler;
  readonly #scheduler: Scheduler;
  readonly #maxRunning: number;
  readonly #prompts = new Map<number, number>();
  #steps = 0;

  constructor(model: RankModel, sampler: Sampler, options: SchedulerOptions) {
    this.#model = model;
    this.#sampler = sampler;
    this.#scheduler = new Scheduler(model.attention, options);
    this.#maxRunning = options.maxRunning;
  }

  /** Words that a stream of events must have room for. */
  static eventWords(maxRunning: number): number {
    return 4 * mostEventWords(maxRunning, MOST_LOGPROBS);
  }

  /** Requests that are computed, and how far each is. */
  get texts(): RunningText[] {
    return this.#scheduler.texts;
  }

  /** Goes on with requests of ranks before these: those of `texts` where they are, the others from their tokens on. */
  resume(requests: readonly ScheduledRequest[], texts: readonly RunningText[]): void {
    const running = new Map(texts.map((text) => [text.id, text]));
    for (const request of requests) {
      const text = running.get(request.id);
      if (text === undefined) this.#scheduler.submit(request);
      else this.#scheduler.resume(request, text.sequence, text.stored);
      this.#prompts.set(request.id, request.prompt.length);
    }
  }

  /** Takes changes, and steps until all is done or the host wants something. */
  async serve(changes: ServeChanges, link: HostLink | undefined): Promise<ServeState> {
    for (const request of changes.submit) {
      this.#scheduler.submit(request);
      this.#prompts.set(request.id, request.prompt.length);
    }
    for (const id of changes.cancel) {
      this.#scheduler.cancel(id);
      this.#prompts.delete(id);
    }
    const started = performance.now();
    let traced: ServedTrace | undefined;
    for (let isWanted = false; !isWanted; ) {
      const items = this.#scheduler.next();
      if (items.length === 0) {
        // Also of steps there were none: requests may have been forgotten.
        this.#tell(link, [], []);
        break;
      }
      this.#tellBegun(link);
      const isTraced = changes.trace && traced === undefined;
      const before = performance.now();
      const { gatherMs, attentionMs, combineMs } = this.#model.attention.metrics;
      const lengths = items.map(({ id }) => this.#scheduler.lengthOf(id));
      if (isTraced) this.#model.beginTrace();
      this.#steps++;
      const logits = await this.#model.forward(items, false);
      const rows = items.filter((item) => item.logits === 1);
      const wanted = isTraced || (link !== undefined && this.#mustReturn(link, started)) ? 1 : 0;
      const { tokens, control } = this.#sampler.choose(logits, rows, wanted);
      if (isTraced) {
        const { metrics } = this.#model.attention;
        traced = {
          trace: this.#model.endTrace(
            this.#steps,
            false,
            items.map(({ id, sequence, ids }) => ({ text: id, sequence, tokens: ids.length })),
          ),
          requests: items.map(({ id }, index) => ({
            text: id,
            promptTokens: this.#prompts.get(id) ?? 0,
            length: lengths[index] ?? 0,
          })),
          stepMs: performance.now() - before,
          gatherMs: metrics.gatherMs - gatherMs,
          attentionMs: metrics.attentionMs - attentionMs,
          combineMs: metrics.combineMs - combineMs,
        };
      }
      this.#tell(link, items, tokens);
      isWanted = control !== 0;
    }
    return { isBusy: !this.#scheduler.isIdle, traced };
  }

  /** Tells the host which requests are begun, before the step that they may not survive. */
  #tellBegun(link: HostLink | undefined): void {
    const words: number[] = [];
    for (const { id, cached } of this.#scheduler.takeBegun()) writeEvent(words, { kind: "begun", id, cached });
    if (words.length > 0) link?.events.push(words);
  }

  /** Takes in what a step chose, and tells the host. */
  #tell(link: HostLink | undefined, items: readonly ScheduledItem[], tokens: readonly ChosenToken[]): void {
    const progress = this.#scheduler.accept(
      items,
      tokens.map(({ token }) => token),
    );
    for (const { id, finish } of progress) if (finish !== undefined) this.#prompts.delete(id);
    if (link === undefined) return;
    const words: number[] = [];
    for (const { id, chosen, finish } of progress) {
      const { token, ...told } = tokens[chosen] ?? { token: -1 };
      writeEvent(words, { kind: "token", id, token: { id: token, ...told }, finish });
    }
    const { running, waiting, preemptions } = this.#scheduler;
    const { free, known } = this.#model.attention.blocks;
    const computed = items.reduce((sum, { ids }) => sum + ids.length, 0);
    writeEvent(words, { kind: "step", running, waiting, freeBlocks: free, knownBlocks: known, preemptions, computed });
    link.events.push(words);
  }

  #mustReturn({ events, interrupt }: HostLink, started: number): boolean {
    // Room for this step's events, and the next one's: what is said now is heard after the next step.
    const isFull = events.room < 2 * mostEventWords(this.#maxRunning, MOST_LOGPROBS);
    return isFull || Atomics.load(interrupt, 0) !== 0 || performance.now() - started > SLICE_MS;
  }
}
