// The texts of one request: asked of the engine together, told as they come, given up together.
import type { GeneratedPart, Prompt, RequestOptions, TextEngine, Usage } from "@lockstep/language-model";
import type { Activity } from "../activity.ts";
import type { GenerationMetrics } from "../metrics.ts";

/** A text to generate. */
export interface WantedText {
  readonly prompt: Prompt;
  readonly options: RequestOptions;
}

/** A part of one of the texts. */
export interface TextPart {
  /** Number of the text, from 0. */
  readonly index: number;
  readonly part: GeneratedPart;
}

export interface GenerationDeps {
  readonly engine: TextEngine;
  readonly activity: Activity;
  readonly metrics: GenerationMetrics;
}

interface Text {
  readonly parts: AsyncGenerator<GeneratedPart, void, void>;
  readonly id: string;
  usage: Usage | undefined;
  lastAt: number;
}

type Arrival = { readonly text: number } & (
  | { readonly result: IteratorResult<GeneratedPart, void> }
  | { readonly error: unknown }
);

/** The client went away, or did not read for too long. */
export class GivenUp extends Error {
  override readonly name = "GivenUp";
}

/** Texts of one request, under way. */
export class Generation {
  readonly #deps: GenerationDeps;
  readonly #texts: Text[] = [];
  readonly #abort = new AbortController();
  readonly #started = performance.now();
  /** Choices of each prompt: its tokens count once. */
  readonly #perPrompt: number;
  #hasEnded = false;
  /** Milliseconds until the first token of any text was there; undefined before. */
  firstTokenMs: number | undefined;

  /**
   * Asks for all of them at once. @throws what the engine throws for any of them: then none is under way
   */
  constructor(
    deps: GenerationDeps,
    request: { readonly id: string; readonly route: "completions" | "chat" },
    wanted: readonly WantedText[],
    perPrompt: number,
  ) {
    this.#deps = deps;
    this.#perPrompt = perPrompt;
    try {
      for (const [index, { prompt, options }] of wanted.entries()) {
        const id = `${request.id}/${index}`;
        const parts = deps.engine.generate(prompt, { ...options, label: id, signal: this.#abort.signal });
        this.#texts.push({ parts, id, usage: undefined, lastAt: this.#started });
        const { maxTokens } = options;
        deps.activity.publish({
          kind: "start",
          id,
          requestId: request.id,
          at: Date.now(),
          route: request.route,
          maxTokens,
        });
      }
    } catch (error) {
      this.#end("failed");
      throw error;
    }
  }

  /** Gives all of the texts up: their iterators throw. */
  cancel(reason: string): void {
    if (!this.#hasEnded) this.#abort.abort(new GivenUp(reason));
  }

  /** Whether it was given up. */
  get isCancelled(): boolean {
    return this.#abort.signal.aborted;
  }

  /** What all took so far together: of those texts that are done. */
  get usage(): Usage {
    const sum = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };
    for (const [index, { usage }] of this.#texts.entries()) {
      sum.completionTokens += usage?.completionTokens ?? 0;
      if (index % this.#perPrompt !== 0) continue;
      sum.promptTokens += usage?.promptTokens ?? 0;
      sum.cachedTokens += usage?.cachedTokens ?? 0;
    }
    return sum;
  }

  /**
   * The parts of all texts, as they come. One part of each is asked for at a time: who reads slowly holds nobody up and
   * keeps no more than the texts. @throws what the engine throws; GivenUp. Then, and when it is left, all are given up.
   */
  async *parts(): AsyncGenerator<TextPart, void, void> {
    const arrivals: Arrival[] = [];
    let wake = (): void => {};
    const ask = (text: number, parts: Text["parts"]): void => {
      parts
        .next()
        .then(
          (result) => arrivals.push({ text, result }),
          (error: unknown) => arrivals.push({ text, error }),
        )
        .finally(() => wake());
    };
    let open = this.#texts.length;
    try {
      for (const [index, { parts }] of this.#texts.entries()) ask(index, parts);
      while (open > 0) {
        const arrival = arrivals.shift();
        if (arrival === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (arrivals.length > 0) resolve();
          });
          continue;
        }
        if ("error" in arrival) throw arrival.error;
        const { text: index, result } = arrival;
        const text = this.#texts[index];
        if (text === undefined) continue;
        if (result.done) {
          open--;
          continue;
        }
        this.#tell(text, result.value);
        yield { index, part: result.value };
        ask(index, text.parts);
      }
      this.#hasEnded = true;
    } catch (error) {
      this.#end(this.isCancelled ? "cancelled" : "failed");
      throw error;
    } finally {
      this.#end("cancelled");
    }
  }

  #tell(text: Text, part: GeneratedPart): void {
    const { activity, metrics } = this.#deps;
    const at = Date.now();
    const tokens = part.tokens.map(({ id }) => id);
    if (tokens.length > 0) {
      const now = performance.now();
      if (text.lastAt === this.#started) metrics.firstToken((now - this.#started) / 1000);
      else metrics.nextTokens((now - text.lastAt) / 1000, tokens.length);
      this.firstTokenMs ??= now - this.#started;
      text.lastAt = now;
    }
    activity.publish({ kind: "tokens", id: text.id, at, text: part.text, tokens });
    if (part.finish === undefined) return;
    text.usage = part.usage;
    activity.publish({ kind: "end", id: text.id, at, reason: part.finish, usage: part.usage });
  }

  /** Gives up what is not done. */
  #end(reason: "cancelled" | "failed"): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#abort.abort(new GivenUp(reason));
    for (const { id, parts, usage } of this.#texts) {
      if (usage !== undefined) continue;
      // It throws the reason of the abort, which nobody waits for any more.
      parts.return().catch(() => {});
      this.#deps.activity.publish({ kind: "end", id, at: Date.now(), reason, usage: undefined });
    }
  }
}
