import type { FlightRecord } from "@lockstep/dist-groups";
import type { Explanation } from "../generation/explanation.ts";
import type { EngineStatus } from "./engine-status.ts";
import type { GeneratedPart, Prompt, RequestOptions } from "./request-options.ts";

/** What serves texts: what a server asks of an engine, and another engine would offer. */
export interface TextEngine extends AsyncDisposable {
  /** Most tokens of one text, prompt included. */
  readonly maxContext: number;
  /** Whether the model has a chat template, so that a prompt may be messages. */
  readonly hasChat: boolean;
  /** Ranks that share the work. */
  readonly ranks: number;
  /**
   * Takes a request, at once: it waits for its turn and is computed, whether or not anybody reads. Dropping the
   * iterator (`return`, or leaving a `for await` loop) gives the request up, and its KV blocks within a step.
   * @throws at once: ArgumentError for what is no request, or longer than the context; ChatTemplateError for messages
   *   that the model's template refuses; EngineBusy when too many wait; ResourceClosed
   * @throws from the iterator: the reason of an aborted `signal`; RanksFailed when a rank failed; ResourceClosed
   */
  generate(prompt: Prompt, options?: RequestOptions): AsyncGenerator<GeneratedPart, void, void>;
  /** How busy it is, and what it did. Cheap. */
  status(): EngineStatus;
  /** Explains a step to come: the next one. Resolves with undefined when there is none within `waitMs` (default 1000). */
  explainStep(waitMs?: number): Promise<EngineStep | undefined>;
  /** What every rank is doing right now, also while one hangs. @throws ResourceClosed, or while ranks are opened again */
  flightRecord(): FlightRecord;
  /** Takes no more requests; resolves when those that it has are done. */
  drain(): Promise<void>;
  /** Ends all: requests under way throw ResourceClosed. Idempotent. */
  close(): Promise<void>;
}

/** One step of an engine. Plain data. */
export interface EngineStep {
  /** What each rank held and exchanged, and each rank's share of the attention. `text` is the number of a request. */
  readonly explanation: Explanation;
  /** Requests of the step, by their numbers, with how long their prompts and texts were before it, and their labels. */
  readonly requests: readonly {
    readonly text: number;
    readonly promptTokens: number;
    readonly length: number;
    readonly label?: string;
  }[];
  /** Milliseconds of the step in all, and what the slowest rank spent in each part of its attention. */
  readonly times: {
    readonly stepMs: number;
    readonly gatherMs: number;
    readonly attentionMs: number;
    readonly combineMs: number;
  };
}
