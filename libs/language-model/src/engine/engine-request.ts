// A request on the host: from the tokens that ranks choose to the parts that somebody reads.
import type { AbortSignalLike } from "@lockstep/dist-groups";
import type { Sampling } from "../sampling/sampling-options.ts";
import type { FinishReason, GeneratedPart, GeneratedToken, Usage } from "./request-options.ts";
import type { ScheduledRequest } from "./scheduler.ts";
import type { TextStream } from "./text-stream.ts";

/** What a request is. */
export interface EngineRequestParts {
  readonly id: number;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly sampling: Sampling;
  /** Tokens that end the text, and are no part of it. */
  readonly endTokens: readonly number[];
  readonly text: TextStream;
  readonly label: string | undefined;
  readonly signal: AbortSignalLike | undefined;
  /** Called once, when nobody wants the rest. */
  readonly onDrop: (request: EngineRequest) => void;
}

/**
 * One request. It is `live` until the ranks are done with it, or need not be: what they still say of it then is not
 * heard. Tokens that come while nobody reads are kept, at most `maxTokens` of them.
 */
export class EngineRequest implements AsyncGenerator<GeneratedPart, void, void> {
  readonly id: number;
  readonly #parts: EngineRequestParts;
  #text = "";
  #tokens: GeneratedToken[] = [];
  readonly #generated: number[] = [];
  #cachedTokens = 0;
  #finish: FinishReason | undefined;
  #failure: { readonly error: unknown } | undefined;
  /** The last part was taken, or nobody takes any more. */
  #isOver = false;
  #wake: (() => void) | undefined;
  readonly #onAbort = (): void => this.#abort();
  /** Whether the ranks have begun to compute it. */
  hasBegun = false;

  constructor(parts: EngineRequestParts) {
    this.id = parts.id;
    this.#parts = parts;
  }

  /** Gives itself up when its signal aborts. To be called once it was taken: one that is refused hears nothing. */
  followSignal(): void {
    this.#parts.signal?.addEventListener("abort", this.#onAbort);
  }

  /** Whether more is to come from the ranks. */
  get isLive(): boolean {
    return this.#finish === undefined && this.#failure === undefined && !this.#isOver;
  }

  /** What its owner calls it. */
  get label(): string | undefined {
    return this.#parts.label;
  }

  get promptTokens(): number {
    return this.#parts.prompt.length;
  }

  /** As the ranks take it, and go on with it if others began it. */
  get scheduled(): ScheduledRequest {
    const { id, prompt, maxTokens, endTokens, sampling } = this.#parts;
    const scheduled = { id, prompt, maxTokens, endTokens, sampling };
    return this.#generated.length === 0 ? scheduled : { ...scheduled, generated: [...this.#generated] };
  }

  /** The ranks began it; of its prompt so many tokens were known. Again after it gave its blocks up: not counted. */
  begin(cached: number): void {
    if (this.hasBegun) return;
    this.hasBegun = true;
    this.#cachedTokens = cached;
  }

  /**
   * Takes a token that the ranks chose; `finish` when it is the last.
   * @returns whether the text ended here although the ranks would go on: a stop text came
   */
  push(token: GeneratedToken, finish: FinishReason | undefined): boolean {
    this.#generated.push(token.id);
    const { text } = this.#parts;
    if (finish === "stop") {
      this.#end("stop", text.end().text);
      return false;
    }
    const { text: more, stopped } = text.push(token.id);
    this.#tokens.push(token);
    if (stopped) {
      this.#end("stop", more);
      return finish === undefined;
    }
    this.#text += more;
    if (finish === undefined) {
      this.#wakeUp();
      return false;
    }
    const last = text.end();
    this.#end(last.stopped ? "stop" : finish, last.text);
    return false;
  }

  /** Ends it with an error, which whoever reads gets after what came before. */
  fail(error: unknown): void {
    if (!this.isLive) return;
    this.#failure = { error };
    this.#settle();
  }

  async next(): Promise<IteratorResult<GeneratedPart, void>> {
    for (;;) {
      if (this.#isOver) return { done: true, value: undefined };
      const part = this.#take();
      if (part !== undefined) return { done: false, value: part };
      if (this.#failure !== undefined) {
        this.#isOver = true;
        throw this.#failure.error;
      }
      await new Promise<void>((resolve) => {
        const before = this.#wake;
        this.#wake = () => {
          before?.();
          resolve();
        };
      });
    }
  }

  /** Gives it up: its blocks are free within a step. */
  async return(): Promise<IteratorResult<GeneratedPart, void>> {
    this.#drop();
    return { done: true, value: undefined };
  }

  /** Gives it up, and throws. */
  async throw(error: unknown): Promise<IteratorResult<GeneratedPart, void>> {
    this.#drop();
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#drop();
  }

  /** What has come since the last part; undefined when nothing has. */
  #take(): GeneratedPart | undefined {
    if (this.#finish === undefined && this.#text === "" && this.#tokens.length === 0) return undefined;
    const part = { text: this.#text, tokens: this.#tokens };
    this.#text = "";
    this.#tokens = [];
    if (this.#finish === undefined) return part;
    this.#isOver = true;
    return { ...part, finish: this.#finish, usage: this.#usage };
  }

  get #usage(): Usage {
    const promptTokens = this.promptTokens;
    return { promptTokens, cachedTokens: this.#cachedTokens, completionTokens: this.#generated.length };
  }

  #end(finish: FinishReason, text: string): void {
    this.#text += text;
    this.#finish = finish;
    this.#settle();
  }

  #abort(): void {
    if (!this.isLive) return;
    this.#failure = { error: this.#parts.signal?.reason };
    this.#parts.onDrop(this);
    this.#settle();
  }

  #drop(): void {
    const wasLive = this.isLive;
    this.#isOver = true;
    if (wasLive) this.#parts.onDrop(this);
    this.#settle();
  }

  /** Nothing more comes from the ranks. */
  #settle(): void {
    this.#parts.signal?.removeEventListener("abort", this.#onAbort);
    this.#wakeUp();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
