// What the routes of one server share, and what they know about a request.
import type { TextEngine } from "@lockstep/language-model";
import type { Activity } from "./activity.ts";
import type { Admission } from "./http/admission.ts";
import type { Log } from "./http/request-log.ts";
import type { Limits } from "./limits.ts";
import type { ServerMetrics } from "./metrics.ts";
import type { PromptTokenizer } from "./tokenize/prompt-tokenizer.ts";

/** What the routes of one server share. */
export interface ServerContext {
  readonly engine: TextEngine;
  readonly modelName: string;
  /** Seconds since 1970 when the server began: the model's `created`. */
  readonly created: number;
  readonly tokenizer: PromptTokenizer;
  readonly limits: Limits;
  readonly activity: Activity;
  readonly admission: Admission;
  readonly metrics: ServerMetrics;
  readonly log: Log;
}

/** What is known about a request, for its log line. */
export interface RequestRecord {
  readonly id: string;
  /** Told in the log beside method, path, status and milliseconds. */
  readonly more: Record<string, unknown>;
  /** Whether the answer goes on after its headers: whoever sets it calls `end` when it has ended. */
  isStream: boolean;
  /** Called when the answer has ended. */
  readonly onEnd: (() => void)[];
  /** Writes the log line and counts the request. Once. `goesOn`: its answer is a stream that nobody follows. */
  end: (goesOn?: boolean) => void;
}

/** Variables of Hono's context. */
export interface Variables {
  record: RequestRecord;
}

/** Types of Hono's context. */
export interface ServerEnv {
  Bindings: {
    /** Called when an answer has ended. */
    readonly onAnswered: () => void;
  };
  Variables: Variables;
}
