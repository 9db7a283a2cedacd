// What the server generates, told as it happens to whoever looks: the live page, and nobody else.
import type { FinishReason, Usage } from "@lockstep/language-model";

/** A text that is generated: one choice of a request. Plain data. */
export type ActivityEvent =
  | {
      readonly kind: "start";
      /** Of the text: the request's id and the number of the choice, as in `req-1/0`. */
      readonly id: string;
      /** As the answer's header x-request-id has it. */
      readonly requestId: string;
      /** Milliseconds since 1970. */
      readonly at: number;
      readonly route: "completions" | "chat";
      /** Most tokens that it may get; undefined: as many as the context holds. */
      readonly maxTokens: number | undefined;
    }
  | {
      readonly kind: "tokens";
      readonly id: string;
      readonly at: number;
      /** Text that became final with these tokens; it may be empty. */
      readonly text: string;
      /** Ids of the tokens. */
      readonly tokens: readonly number[];
    }
  | {
      readonly kind: "end";
      readonly id: string;
      readonly at: number;
      /** "cancelled": the client went away; "failed": the engine could not. */
      readonly reason: FinishReason | "cancelled" | "failed";
      /** Unless it was cancelled or failed. */
      readonly usage: Usage | undefined;
    };

/** Hears of each event, at once. What it throws is dropped: who looks cannot disturb who is served. */
export type ActivityListener = (event: ActivityEvent) => void;

/** Tells listeners of this process what is generated. Keeps nothing: who comes later hears what comes later. */
export class Activity {
  readonly #listeners = new Set<ActivityListener>();

  /** Hears of everything from now on, until the function that it returns is called. */
  subscribe(listener: ActivityListener): () => void {
    // A listener of its own, so that one function may subscribe twice.
    const own: ActivityListener = (event) => listener(event);
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  /** Whether anybody listens. */
  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  /** Tells all listeners. */
  publish(event: ActivityEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch {
        // Told where ActivityListener is.
      }
    }
  }
}
