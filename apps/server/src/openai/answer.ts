// How both ways to ask for text are answered: all at once, or as a stream of events.
import type { Context } from "hono";
import { ApiError } from "../http/api-error.ts";
import { answerFor } from "../http/engine-error.ts";
import { event, eventStream } from "../http/event-stream.ts";
import type { RequestRecord, ServerContext, ServerEnv } from "../server-context.ts";
import { Generation, GivenUp, type TextPart, type WantedText } from "./generation.ts";
import { usageOf } from "./usage.ts";

/** Forms of one kind of answer. */
export interface AnswerForm {
  readonly route: "completions" | "chat";
  /** Events before those of a text's parts, if any. */
  begin(index: number): readonly object[];
  /** Event of a part; undefined when it says nothing. */
  event(part: TextPart): object | undefined;
  /** Keeps a part for an answer all at once. */
  take(part: TextPart): void;
  /** The answer all at once, without usage. */
  all(): object;
  /** A stream's last event, which has the usage alone. */
  head(): object;
}

export interface AnswerRequest {
  readonly wanted: readonly WantedText[];
  /** Texts of each prompt. */
  readonly perPrompt: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** Asks the engine, and answers. @throws what the engine throws before there is an answer */
export async function answer(
  c: Context<ServerEnv>,
  server: ServerContext,
  form: AnswerForm,
  { wanted, perPrompt, stream, includeUsage }: AnswerRequest,
): Promise<Response> {
  const record = c.get("record");
  const generation = new Generation(server, { id: record.id, route: form.route }, wanted, perPrompt);
  const { signal } = c.req.raw;
  const gone = (): void => generation.cancel("the client went away");
  signal.addEventListener("abort", gone);
  if (signal.aborted) gone();
  const done = (): void => {
    signal.removeEventListener("abort", gone);
    noteGeneration(record, generation);
  };
  if (!stream) {
    try {
      for await (const part of generation.parts()) form.take(part);
      return c.json({ ...form.all(), usage: usageOf(generation.usage) });
    } catch (error) {
      // Nobody reads it: for the log.
      throw error instanceof GivenUp ? new ApiError(400, error.message, { code: "client_gone" }) : error;
    } finally {
      done();
    }
  }
  record.isStream = true;
  const events = streamEvents(server, form, generation, wanted.length, includeUsage, record, done);
  const body = eventStream(events, {
    keepAliveMs: server.limits.keepAliveMs,
    stalledMs: server.limits.stalledMs,
    onGone: (why) => {
      generation.cancel(why);
      record.more.gone = why;
      // A stream that was never begun has no end of its own.
      done();
      record.end();
    },
  });
  return c.body(body, 200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
  });
}

async function* streamEvents(
  server: ServerContext,
  form: AnswerForm,
  generation: Generation,
  texts: number,
  includeUsage: boolean,
  record: RequestRecord,
  done: () => void,
): AsyncGenerator<string, void, void> {
  const usage = includeUsage ? { usage: null } : {};
  try {
    for (let index = 0; index < texts; index++) {
      for (const one of form.begin(index)) yield event({ ...one, ...usage });
    }
    for await (const part of generation.parts()) {
      const told = form.event(part);
      if (told !== undefined) yield event({ ...told, ...usage });
    }
    if (includeUsage) yield event({ ...form.head(), choices: [], usage: usageOf(generation.usage) });
    yield event("[DONE]");
  } catch (error) {
    if (error instanceof GivenUp) return;
    const told = answerFor(error);
    noteError(server, record, error);
    yield event(told.body);
  } finally {
    generation.cancel("the stream was left");
    done();
    record.end();
  }
}

/** What a generation took, for the log. */
function noteGeneration(record: RequestRecord, generation: Generation): void {
  const { usage, firstTokenMs } = generation;
  record.more.prompt_tokens = usage.promptTokens;
  record.more.cached_tokens = usage.cachedTokens;
  record.more.completion_tokens = usage.completionTokens;
  if (firstTokenMs !== undefined) record.more.first_token_ms = Math.round(firstTokenMs);
  if (generation.isCancelled) record.more.cancelled = true;
}

/** Puts an error into the log line of its request; what is nobody's doing but the server's, with its stack. */
export function noteError(server: ServerContext, record: RequestRecord, error: unknown): void {
  const { status, message, details } = answerFor(error);
  record.more.error = details.code ?? message;
  if (status !== 500) return;
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  server.log({ level: "error", event: "failure", request_id: record.id, stack });
}
