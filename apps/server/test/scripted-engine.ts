// An engine without a model: the same texts each time, as slow as is asked, that hangs, fails and is busy when told to.
// Its tokens are UTF-16 code units, its texts letters that depend on the prompt, the seed and the place.
import type { FlightRecord } from "@lockstep/dist-groups";
import {
  ChatTemplateError,
  EngineBusy,
  type EngineStatus,
  type GeneratedPart,
  type GeneratedToken,
  type Prompt,
  RanksFailed,
  type RequestOptions,
  type TextEngine,
} from "@lockstep/language-model";
import { ArgumentError, ResourceClosed } from "@lockstep/tensor";
import type { PromptTokenizer } from "../src/tokenize/prompt-tokenizer.ts";
import { noTotals } from "./no-totals.ts";

const encode = (text: string): number[] => Array.from({ length: text.length }, (_, at) => text.charCodeAt(at));

export const scriptedTokenizer: PromptTokenizer = {
  longestToken: 1,
  encode,
  encodeChat: (messages) => messages.flatMap(({ role, content }) => encode(templated(role, content))),
  textOf: (token) => String.fromCharCode(token),
  decode: (tokens) => String.fromCharCode(...tokens),
};

function templated(role: string, content: string): string {
  if (role === "nobody") throw new ChatTemplateError("line 3: there is no role nobody");
  return `<${role}>${content}`;
}

/** What an engine does. */
export interface Script {
  readonly maxContext?: number;
  readonly hasChat?: boolean;
  /** Tokens that come together. Default 1. */
  readonly partTokens?: number;
  /** Milliseconds of each part. Default 0. */
  readonly tokenMs?: number;
  readonly maxRunning?: number;
  readonly maxWaiting?: number;
}

/** Ids of the tokens that follow a prompt: letters, and a space now and then. */
export function scriptedTokens(prompt: readonly number[], seed: number, count: number): number[] {
  let state = prompt.reduce((sum, id) => (Math.imul(sum, 31) + id) >>> 0, seed >>> 0);
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const letter = (state >>> 16) % 27;
    return letter === 26 ? 32 : 97 + letter;
  });
}

/** The text that follows a prompt. */
export function scriptedText(prompt: string, seed: number, count: number): string {
  return String.fromCharCode(...scriptedTokens(encode(prompt), seed, count));
}

const BLOCK_TOKENS = 16;

/** A token, with log-probabilities when they are asked for. */
function tokenOf(id: number, logprobs: number | undefined): GeneratedToken {
  if (logprobs === undefined) return { id };
  const top = [0, 1, 2].map((rank) => ({ id: id + rank, logprob: -0.25 - rank })).slice(0, logprobs);
  return { id, logprob: -0.25, ...(logprobs > 0 ? { top } : {}) };
}

export class ScriptedEngine implements TextEngine {
  readonly maxContext: number;
  readonly hasChat: boolean;
  readonly ranks = 2;
  readonly #script: Script;
  readonly #running = new Set<AbortController>();
  #waiting: (() => void)[] = [];
  #state: EngineStatus["state"] = "ready";
  #isDraining = false;
  #hang: Promise<void> | undefined;
  #unhang = (): void => {};
  #usedBlocks = 0;
  readonly #totals = noTotals();

  constructor(script: Script = {}) {
    this.#script = script;
    this.maxContext = script.maxContext ?? 512;
    this.hasChat = script.hasChat ?? true;
  }

  generate(prompt: Prompt, options: RequestOptions = {}): AsyncGenerator<GeneratedPart, void, void> {
    if (this.#state === "closed" || this.#isDraining)
      throw new ResourceClosed("Engine.generate", "the engine", "Open another.");
    const ids = this.#ids(prompt);
    const { maxRunning = 8, maxWaiting = 8 } = this.#script;
    if (this.#running.size >= maxRunning && this.#waiting.length >= maxWaiting) {
      this.#totals.refused++;
      throw new EngineBusy(maxWaiting, 1500);
    }
    const room = this.maxContext - ids.length;
    if (options.maxTokens !== undefined && options.maxTokens > room) {
      throw new ArgumentError("Engine.generate", "maxTokens", `at most ${room}`, `${options.maxTokens}`);
    }
    this.#totals.requests++;
    return this.#generate(ids, options);
  }

  #ids(prompt: Prompt): readonly number[] {
    const [first] = prompt;
    if (first === undefined) throw new ArgumentError("Engine.generate", "prompt", "at least one token", "none");
    const ids =
      typeof prompt === "string"
        ? encode(prompt)
        : prompt.flatMap((part) => (typeof part === "number" ? [part] : encode(templated(part.role, part.content))));
    if (ids.some((id) => id > 65535)) throw new ArgumentError("Engine.generate", "prompt", "ids below 65536", "others");
    if (ids.length < this.maxContext) return ids;
    const most = `fewer than ${this.maxContext} tokens`;
    throw new ArgumentError("Engine.generate", "prompt", most, `${ids.length} tokens`);
  }

  async *#generate(prompt: readonly number[], options: RequestOptions): AsyncGenerator<GeneratedPart, void, void> {
    const { maxTokens = Number.POSITIVE_INFINITY, seed = 0, signal, logprobs, temperature = 0 } = options;
    const stops = typeof options.stop === "string" ? [options.stop] : (options.stop ?? []);
    const room = this.maxContext - prompt.length;
    const count = Math.min(maxTokens, room);
    const tokens = scriptedTokens(prompt, temperature === 0 ? 0 : seed, count);
    const own = new AbortController();
    const blocks = Math.ceil(prompt.length / BLOCK_TOKENS);
    let isDone = false;
    await this.#turn(signal);
    this.#running.add(own);
    this.#usedBlocks += blocks;
    this.#totals.promptTokens += prompt.length;
    try {
      const { partTokens = 1 } = this.#script;
      let text = "";
      for (let done = 0; done < count; ) {
        await this.#step(own.signal, signal);
        const ids = tokens.slice(done, done + partTokens);
        const stopAt = ids.findIndex((id) =>
          stops.some((stop) => `${text}${scriptedTokenizer.textOf(id)}`.endsWith(stop)),
        );
        const isStopped = stopAt !== -1;
        const taken = isStopped ? ids.slice(0, stopAt + 1) : ids;
        done += taken.length;
        this.#totals.generatedTokens += taken.length;
        const said = String.fromCharCode(...(isStopped ? taken.slice(0, -1) : taken));
        text = `${text}${said}`.slice(-256);
        const isLast = isStopped || done >= count;
        if (isLast) isDone = true;
        yield {
          text: said,
          tokens: taken.map((id) => tokenOf(id, logprobs)),
          ...(isLast
            ? {
                finish: isStopped ? "stop" : "length",
                usage: {
                  promptTokens: prompt.length,
                  cachedTokens: Math.floor(prompt.length / 2),
                  completionTokens: done,
                },
              }
            : {}),
        };
        if (isLast) return;
      }
    } finally {
      this.#running.delete(own);
      this.#usedBlocks -= blocks;
      if (isDone) this.#totals.finished++;
      else if (own.signal.aborted) this.#totals.failed++;
      else this.#totals.cancelled++;
      this.#waiting.shift()?.();
    }
  }

  async #turn(signal: RequestOptions["signal"]): Promise<void> {
    while (this.#running.size >= (this.#script.maxRunning ?? 8)) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      const gone = (): void => {
        this.#waiting = this.#waiting.filter((one) => one !== resolve);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", gone);
      if (signal?.aborted === true) gone();
      await promise.finally(() => signal?.removeEventListener("abort", gone));
    }
  }

  /** One token's time, and as long as it hangs; it ends early with whoever gives up. */
  async #step(failed: AbortSignal, signal: RequestOptions["signal"]): Promise<void> {
    this.#totals.steps++;
    const signals = signal === undefined ? [failed] : [failed, signal];
    const gone = Promise.withResolvers<void>();
    const leave = (): void => gone.resolve();
    for (const one of signals) one.addEventListener("abort", leave);
    if (signals.some(({ aborted }) => aborted)) leave();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const time = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#script.tokenMs ?? 0);
    });
    await Promise.race([gone.promise, time.then(() => this.#hang)]);
    clearTimeout(timer);
    for (const one of signals) {
      one.removeEventListener("abort", leave);
      if (one.aborted) throw one.reason;
    }
  }

  /** Makes every token wait, until {@link goOn}. */
  hang(): void {
    this.#hang = new Promise((resolve) => {
      this.#unhang = resolve;
    });
  }

  goOn(): void {
    this.#hang = undefined;
    this.#unhang();
  }

  /** Fails what is under way, as a rank that dies does. */
  fail(rank: number): void {
    this.#totals.restarts++;
    for (const own of this.#running) own.abort(new RanksFailed([rank], new Error("its worker ended.")));
  }

  setState(state: EngineStatus["state"]): void {
    this.#state = state;
  }

  status(): EngineStatus {
    return {
      state: this.#state,
      running: this.#running.size,
      waiting: this.#waiting.length,
      blocks: { total: 256, used: this.#usedBlocks, cached: 3 },
      blockTokens: BLOCK_TOKENS,
      rankBlockTokens: [BLOCK_TOKENS],
      totals: { ...this.#totals },
    };
  }

  async explainStep(): Promise<undefined> {}

  flightRecord(): FlightRecord {
    const op = {
      op: "allReduce",
      dtype: "f32",
      reduction: "sum",
      shape: [4, 8],
      bytes: 128,
      startMs: 5,
    } as const;
    const done = { ...op, sequence: 0, endMs: 6, state: "done" } as const;
    const waiting = { ...op, sequence: 1, endMs: undefined, state: "waiting" } as const;
    return {
      takenAtMs: 1234,
      groups: [
        {
          group: "world",
          generation: 1,
          ranks: [
            { rank: 0, started: 2, ops: [done, waiting] },
            { rank: 1, started: 1, ops: [done] },
          ],
        },
      ],
    };
  }

  async drain(): Promise<void> {
    this.#isDraining = true;
    while (this.#running.size + this.#waiting.length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  async close(): Promise<void> {
    this.#state = "closed";
    const closed = new ResourceClosed("Engine.generate", "the engine", "Open another.");
    for (const own of this.#running) own.abort(closed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
