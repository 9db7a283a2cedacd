// What /metrics tells, in Prometheus' text format.
import process from "node:process";
import type { EngineStatus, EngineTotals, TextEngine } from "@lockstep/language-model";
import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Hears how long tokens take. */
export interface GenerationMetrics {
  /** Seconds from the request to a text's first token. */
  firstToken(seconds: number): void;
  /** Seconds from the token before to the last of `count` tokens that came together. */
  nextTokens(seconds: number, count: number): void;
}

const STATES: readonly EngineStatus["state"][] = ["ready", "restarting", "failed", "closed"];

const TOTALS: readonly (readonly [name: string, help: string, total: keyof EngineTotals])[] = [
  ["lockstep_steps_total", "Forward passes.", "steps"],
  ["lockstep_engine_requests_total", "Texts that the engine took.", "requests"],
  ["lockstep_engine_finished_total", "Texts that ended well.", "finished"],
  ["lockstep_engine_cancelled_total", "Texts that were given up by those who asked.", "cancelled"],
  ["lockstep_engine_failed_total", "Texts that failed with the ranks.", "failed"],
  ["lockstep_engine_refused_total", "Texts refused because too many waited.", "refused"],
  ["lockstep_prompt_tokens_total", "Tokens of the prompts that were begun.", "promptTokens"],
  ["lockstep_cached_prompt_tokens_total", "Those of them that were known from other texts.", "cachedTokens"],
  ["lockstep_computed_tokens_total", "Tokens whose keys and values were computed.", "computedTokens"],
  ["lockstep_generated_tokens_total", "Tokens generated.", "generatedTokens"],
  ["lockstep_preemptions_total", "Times that a text gave its KV blocks up for others.", "preemptions"],
  ["lockstep_restarts_total", "Times that the ranks were opened again.", "restarts"],
  ["lockstep_resizes_total", "Times that the texts went on with other ranks.", "resizes"],
];

const GAUGES: readonly (readonly [name: string, help: string, value: (status: EngineStatus) => number])[] = [
  ["lockstep_running", "Texts that are being computed.", ({ running }) => running],
  ["lockstep_waiting", "Texts that wait for their turn.", ({ waiting }) => waiting],
  ["lockstep_kv_blocks", "KV blocks of each rank.", ({ blocks }) => blocks.total],
  ["lockstep_kv_blocks_used", "KV blocks of each rank that texts hold.", ({ blocks }) => blocks.used],
  [
    "lockstep_kv_blocks_cached",
    "KV blocks of each rank that are kept for texts to come.",
    ({ blocks }) => blocks.cached,
  ],
];

/** Counts what a server does. */
export class ServerMetrics implements GenerationMetrics {
  readonly #registry = new Registry();
  readonly #requests: Counter<"route" | "method" | "status">;
  readonly #duration: Histogram<"route">;
  readonly #firstToken: Histogram;
  readonly #nextToken: Histogram;

  /** `inFlight` tells how many requests generate. */
  constructor(engine: TextEngine, inFlight: () => number) {
    const registers = [this.#registry];
    for (const [name, help, total] of TOTALS) {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(engine.status().totals[total]);
        },
      });
    }
    for (const [name, help, value] of GAUGES) {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value(engine.status()));
        },
      });
    }
    new Gauge({
      name: "lockstep_kv_block_tokens",
      help: "Tokens of a KV block that each of the ranks that share it holds.",
      labelNames: ["rank"],
      registers,
      collect() {
        // There may be fewer ranks than before.
        this.reset();
        for (const [rank, tokens] of engine.status().rankBlockTokens.entries()) this.set({ rank }, tokens);
      },
    });
    new Gauge({
      name: "lockstep_state",
      help: "1 for the state that the engine is in.",
      labelNames: ["state"],
      registers,
      collect() {
        const { state } = engine.status();
        for (const one of STATES) this.set({ state: one }, one === state ? 1 : 0);
      },
    });
    new Gauge({
      name: "lockstep_http_requests_in_flight",
      help: "Requests that generate.",
      registers,
      collect() {
        this.set(inFlight());
      },
    });
    new Gauge({
      name: "process_resident_memory_bytes",
      help: "Resident memory of the process.",
      registers,
      collect() {
        this.set(process.memoryUsage.rss());
      },
    });
    this.#requests = new Counter({
      name: "lockstep_http_requests_total",
      help: "Requests that were answered.",
      labelNames: ["route", "method", "status"],
      registers,
    });
    this.#duration = new Histogram({
      name: "lockstep_http_request_duration_seconds",
      help: "Seconds from a request to the end of its answer.",
      labelNames: ["route"],
      buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
      registers,
    });
    this.#firstToken = new Histogram({
      name: "lockstep_time_to_first_token_seconds",
      help: "Seconds from a request to a text's first token.",
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    });
    this.#nextToken = new Histogram({
      name: "lockstep_inter_token_seconds",
      help: "Seconds from a token of a text to its next.",
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
      registers,
    });
  }

  firstToken(seconds: number): void {
    this.#firstToken.observe(seconds);
  }

  nextTokens(seconds: number, count: number): void {
    for (let token = 0; token < count; token++) this.#nextToken.observe(seconds / count);
  }

  /** A request was answered. */
  answered(route: string, method: string, status: number, seconds: number): void {
    this.#requests.inc({ route, method, status });
    this.#duration.observe({ route }, seconds);
  }

  /** All of it, as text. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** Of the text. */
  get contentType(): string {
    return this.#registry.contentType;
  }
}
