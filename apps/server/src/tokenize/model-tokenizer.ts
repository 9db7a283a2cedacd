import { type ChatMessage, ChatTemplateError, type Model } from "@lockstep/language-model";
import type { PromptTokenizer } from "./prompt-tokenizer.ts";
import type { FromTokenizer, ToTokenizer } from "./tokenizer-worker.ts";
import { type Tokens, tokensOf } from "./tokens.ts";

/** Characters of texts whose tokens are made at once: a few milliseconds. Longer ones go to a worker. */
const SHORT = 4096;

type Pending = PromiseWithResolvers<readonly number[]>;

/**
 * The tokenizer of a model. Long texts are left to a worker, one after another: who sends them waits, and nobody else.
 * The worker starts with the first of them.
 */
export class ModelTokenizer implements PromptTokenizer, Disposable {
  readonly longestToken: number;
  readonly #folder: string;
  readonly #tokens: Tokens;
  #worker: Worker | undefined;
  #pending = new Map<number, Pending>();
  #nextId = 0;

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

  encode(text: string): readonly number[] | Promise<readonly number[]> {
    if (text.length <= SHORT) return this.#tokens.encode(text);
    return this.#ask((id) => ({ id, text }));
  }

  encodeChat(messages: readonly ChatMessage[]): readonly number[] | Promise<readonly number[]> {
    const characters = messages.reduce((sum, { role, content }) => sum + role.length + content.length + 1, 0);
    if (characters <= SHORT) return this.#tokens.encodeChat(messages);
    return this.#ask((id) => ({ id, messages }));
  }

  /** Ends the worker. */
  [Symbol.dispose](): void {
    this.#fail(new Error("the tokenizer was closed"));
  }

  #ask(question: (id: number) => ToTokenizer): Promise<readonly number[]> {
    const worker = this.#worker ?? this.#start();
    const id = this.#nextId++;
    const pending: Pending = Promise.withResolvers();
    this.#pending.set(id, pending);
    worker.postMessage(question(id));
    return pending.promise;
  }

  #start(): Worker {
    const worker = new Worker(new URL("./tokenizer-worker.ts", import.meta.url).href, { type: "module" });
    this.#worker = worker;
    worker.addEventListener("message", ({ data }: MessageEvent<FromTokenizer>) => {
      const pending = this.#pending.get(data.id);
      this.#pending.delete(data.id);
      if ("ids" in data) pending?.resolve(Array.from(data.ids));
      else pending?.reject(errorOf(data));
    });
    // In Deno an error of a worker is the process's unless it is prevented.
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      if (this.#worker === worker) this.#fail(new Error(`the tokenizer's worker ended: ${event.message}`));
    });
    worker.postMessage({ open: this.#folder } satisfies ToTokenizer);
    return worker;
  }

  /** Ends the worker, and those who wait for it; the next long text starts another. */
  #fail(error: Error): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

function errorOf({ failure, isTemplates }: Extract<FromTokenizer, { readonly failure: string }>): Error {
  return isTemplates ? new ChatTemplateError(failure.replace(/^the chat template: /, "")) : new Error(failure);
}
