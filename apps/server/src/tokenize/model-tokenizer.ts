import { type ChatMessage, ChatTemplateError, type Model } from "@lockstep/language-model";
import type { PromptTokenizer } from "./prompt-tokenizer.ts";
import type { FromTokenizer, ToTokenizer } from "./tokenizer-worker.ts";
import { type Tokens, tokensOf } from "./tokens.ts";

/** Characters of texts whose tokens are made at once: a few milliseconds. Longer ones go to a worker. */
const SHORT = 4096;

/** A long text that somebody waits for. */
interface Job {
  readonly question: ToTokenizer;
  readonly answer: PromiseWithResolvers<readonly number[]>;
  /** Stops listening to who may give it up. */
  readonly forget: () => void;
}

/**
 * The tokenizer of a model. Long texts are left to a worker, one after another: who sends them waits, and nobody else.
 * The worker starts with the first of them. A text that is given up while its tokens are made takes the worker with it,
 * as nothing else ends its work: the next one has another.
 */
export class ModelTokenizer implements PromptTokenizer, Disposable {
  readonly longestToken: number;
  readonly #folder: string;
  readonly #tokens: Tokens;
  #worker: Worker | undefined;
  /** The text at the worker, and those behind it. */
  #current: Job | undefined;
  readonly #waiting: Job[] = [];

  constructor(model: Pick<Model, "folder" | "tokenizer" | "chatTemplate" | "config">) {
    this.#folder = model.folder;
    this.#tokens = tokensOf(model);
    let longest = 1;
    for (let id = 0; id < model.config.vocabularySize; id++) longest = Math.max(longest, this.textOf(id).length);
    this.longestToken = longest;
  }

  textOf(token: number): string {
    return this.#tokens.textOf(token);
  }

  decode(tokens: readonly number[]): string {
    return this.#tokens.decode(tokens);
  }

  encode(text: string, signal?: AbortSignal): readonly number[] | Promise<readonly number[]> {
    if (text.length <= SHORT) return this.#tokens.encode(text);
    return this.#ask({ text }, signal);
  }

  encodeChat(messages: readonly ChatMessage[], signal?: AbortSignal): readonly number[] | Promise<readonly number[]> {
    const characters = messages.reduce((sum, { role, content }) => sum + role.length + content.length + 1, 0);
    if (characters <= SHORT) return this.#tokens.encodeChat(messages);
    return this.#ask({ messages }, signal);
  }

  /** Ends the worker, and those who wait for it. */
  [Symbol.dispose](): void {
    this.#endWorker();
    const waiting = this.#current === undefined ? this.#waiting.splice(0) : [this.#current, ...this.#waiting.splice(0)];
    this.#current = undefined;
    for (const { answer, forget } of waiting) {
      forget();
      answer.reject(new Error("the tokenizer was closed"));
    }
  }

  async #ask(question: ToTokenizer, signal: AbortSignal | undefined): Promise<readonly number[]> {
    signal?.throwIfAborted();
    const answer = Promise.withResolvers<readonly number[]>();
    const giveUp = (): void => this.#giveUp(job, signal?.reason);
    const job: Job = { question, answer, forget: () => signal?.removeEventListener("abort", giveUp) };
    signal?.addEventListener("abort", giveUp);
    this.#waiting.push(job);
    this.#next();
    return await answer.promise;
  }

  /** Gives the worker the next text, if it has none. */
  #next(): void {
    if (this.#current !== undefined) return;
    this.#current = this.#waiting.shift();
    if (this.#current === undefined) return;
    this.#worker ??= this.#start();
    this.#worker.postMessage(this.#current.question);
  }

  #start(): Worker {
    const worker = new Worker(new URL("./tokenizer-worker.ts", import.meta.url).href, { type: "module" });
    worker.addEventListener("message", ({ data }: MessageEvent<FromTokenizer>) => {
      if (this.#worker !== worker) return;
      this.#settle((answer) => ("ids" in data ? answer.resolve(Array.from(data.ids)) : answer.reject(errorOf(data))));
    });
    // In Deno an error of a worker is the process's unless it is prevented.
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      if (this.#worker !== worker) return;
      this.#endWorker();
      this.#settle((answer) => answer.reject(new Error(`the tokenizer's worker ended: ${event.message}`)));
    });
    worker.postMessage({ open: this.#folder } satisfies ToTokenizer);
    return worker;
  }

  /** The text at the worker is done, one way or another. */
  #settle(settle: (answer: Job["answer"]) => void): void {
    const job = this.#current;
    this.#current = undefined;
    job?.forget();
    if (job !== undefined) settle(job.answer);
    this.#next();
  }

  #giveUp(job: Job, reason: unknown): void {
    if (job === this.#current) {
      this.#endWorker();
      this.#settle((answer) => answer.reject(reason));
      return;
    }
    this.#waiting.splice(this.#waiting.indexOf(job), 1);
    job.forget();
    job.answer.reject(reason);
  }

  #endWorker(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
  }
}

function errorOf({ failure, isTemplates }: Extract<FromTokenizer, { readonly failure: string }>): Error {
  return isTemplates ? new ChatTemplateError(failure.replace(/^the chat template: /, "")) : new Error(failure);
}
