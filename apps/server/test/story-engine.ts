// An engine without a model that tells a story: the same for every request, one token a step, with steps as four ranks
// would explain them. It hangs and fails when told to.
import type { FlightRecord } from "@lockstep/dist-groups";
import type {
  EngineStatus,
  EngineStep,
  GeneratedPart,
  Prompt,
  RequestOptions,
  TextEngine,
} from "@lockstep/language-model";
import { ResourceClosed } from "@lockstep/tensor";
import { noTotals } from "./no-totals.ts";
import { explainedStep, RANKS, type StoryText } from "./story-step.ts";
import { ASKS_FOR_MARKUP, STORY, textOf } from "./story-tokens.ts";

const BLOCKS = 96;
const BLOCK_TOKENS = 16;
/** Where a request whose prompt is markup begins: tokens past the story. */
const MARKUP = STORY.length;

interface Running extends StoryText {
  length: number;
  readonly wake: () => void;
}

export class StoryEngine implements TextEngine {
  readonly maxContext = 2048;
  readonly hasChat = false;
  readonly ranks = RANKS;
  readonly #running = new Set<Running>();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #opened = performance.now();
  #state: EngineStatus["state"] = "ready";
  #isHanging = false;
  #explain: ((step: EngineStep) => void)[] = [];
  readonly #totals = noTotals();

  /** @param stepMs milliseconds from one step to the next */
  constructor(stepMs = 40) {
    this.#timer = setInterval(() => this.#step(), stepMs);
  }

  generate(prompt: Prompt, options: RequestOptions = {}): AsyncGenerator<GeneratedPart, void, void> {
    if (this.#state === "closed") throw new ResourceClosed("Engine.generate", "the engine", "Open another.");
    this.#totals.requests++;
    const begin = [...prompt].includes(ASKS_FOR_MARKUP) ? MARKUP : 0;
    return this.#generate(this.#totals.requests - 1, prompt.length, begin, options);
  }

  async *#generate(
    text: number,
    promptTokens: number,
    begin: number,
    { maxTokens = 64, signal, label }: RequestOptions,
  ): AsyncGenerator<GeneratedPart, void, void> {
    let next = Promise.withResolvers<void>();
    const named = label === undefined ? {} : { label };
    const own: Running = { text, promptTokens, length: promptTokens, ...named, wake: () => next.resolve() };
    this.#running.add(own);
    this.#totals.promptTokens += promptTokens;
    this.#totals.cachedTokens += Math.floor(promptTokens / 2);
    signal?.addEventListener("abort", own.wake);
    let told = 0;
    try {
      while (told < maxTokens) {
        if (signal?.aborted === true) throw signal.reason;
        if (own.length - promptTokens <= told) {
          await next.promise;
          next = Promise.withResolvers();
          continue;
        }
        const id = begin + (told++ % STORY.length);
        this.#totals.generatedTokens++;
        const usage = { promptTokens, cachedTokens: Math.floor(promptTokens / 2), completionTokens: told };
        yield { text: textOf(id), tokens: [{ id }], ...(told < maxTokens ? {} : { finish: "length", usage }) };
      }
      this.#totals.finished++;
    } finally {
      signal?.removeEventListener("abort", own.wake);
      this.#running.delete(own);
      if (told < maxTokens) this.#totals.cancelled++;
    }
  }

  #step(): void {
    if (this.#isHanging || this.#state !== "ready" || this.#running.size === 0) return;
    this.#totals.steps++;
    const before = [...this.#running].map((text) => ({ ...text }));
    for (const text of this.#running) {
      text.length++;
      text.wake();
    }
    for (const tell of this.#explain.splice(0)) tell(explainedStep(this.#totals.steps, before));
  }

  /** No step ends until {@link goOn}. */
  hang(): void {
    this.#isHanging = true;
  }

  goOn(): void {
    this.#isHanging = false;
  }

  setState(state: EngineStatus["state"]): void {
    this.#state = state;
  }

  status(): EngineStatus {
    const held = [...this.#running].reduce((sum, { length }) => sum + Math.ceil(length / BLOCK_TOKENS), 0);
    const used = Math.min(BLOCKS, held);
    return {
      state: this.#state,
      running: this.#running.size,
      waiting: 0,
      blocks: { total: BLOCKS, used, cached: Math.min(BLOCKS - used, 14) },
      blockTokens: BLOCK_TOKENS,
      rankBlockTokens: [BLOCK_TOKENS],
      totals: { ...this.#totals },
    };
  }

  /** Calls of {@link explainStep} so far, and those that wait. */
  explained = 0;
  explaining = 0;

  async explainStep(waitMs = 1000): Promise<EngineStep | undefined> {
    this.explained++;
    this.explaining++;
    const { promise, resolve } = Promise.withResolvers<EngineStep | undefined>();
    const timer = setTimeout(() => resolve(undefined), waitMs);
    this.#explain.push(resolve);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#explain = this.#explain.filter((one) => one !== resolve);
      this.explaining--;
    }
  }

  /** Rank 2 has not come to the all-gather that the others wait in. */
  flightRecord(): FlightRecord {
    if (this.#state !== "ready") throw new ResourceClosed("Engine.flightRecord", "the world", "Ask again.");
    const takenAtMs = Math.round(performance.now() - this.#opened);
    const common = { dtype: "f32", reduction: undefined, shape: [4, 8, 64], bytes: 6144 } as const;
    const done = {
      ...common,
      op: "allGather",
      sequence: 41,
      startMs: takenAtMs - 900,
      endMs: takenAtMs - 890,
      state: "done",
    } as const;
    const waiting = { ...done, sequence: 42, startMs: takenAtMs - 880, endMs: undefined, state: "waiting" } as const;
    const ranks = Array.from({ length: RANKS }, (_, rank) =>
      rank === 2 ? { rank, started: 42, ops: [done] } : { rank, started: 43, ops: [done, waiting] },
    );
    return { takenAtMs, groups: [{ group: "dcp", generation: 1, ranks }] };
  }

  async drain(): Promise<void> {
    while (this.#running.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#state = "closed";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
