import { Hono } from "hono";
import { ApiError } from "../http/api-error.ts";
import type { PageDeps } from "../page-routes.ts";
import { LiveFeed, type LiveIntervals } from "./live-feed.ts";

/** Who may watch, and what they are told. */
export interface EventsOptions {
  /** Whose texts watchers are told: everybody's, or nobody's. */
  readonly texts: "all" | "own";
  /** Most watchers at once. Default 16. */
  readonly mostWatchers?: number;
  readonly intervals?: LiveIntervals;
}

const DEFAULT_WATCHERS = 16;
const RETRY_MS = 5_000;
const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  "x-accel-buffering": "no",
  "x-content-type-options": "nosniff",
};

/**
 * GET /events: server-sent events of what the engine does, as in live-messages.ts, until the client goes or the server
 * ends. Answers 429 when too many watch, and 403 to browsers that ask for another website.
 */
export function eventsRoute(
  deps: PageDeps,
  { texts, intervals, mostWatchers = DEFAULT_WATCHERS }: EventsOptions,
): Hono {
  const { engine, activity, textOf, closing } = deps;
  const hello = { model: deps.modelName, maxContext: engine.maxContext, texts };
  const feed = new LiveFeed({
    engine,
    activity,
    hello,
    textOf,
    mostWatchers,
    ...(intervals === undefined ? {} : { intervals }),
  });
  if (closing.aborted) feed.close();
  else closing.addEventListener("abort", () => feed.close(), { once: true });
  return new Hono().get("/events", (context) => {
    // Nobody would read the stream that a HEAD request does not want.
    if (context.req.method === "HEAD") return new Response(null, { headers: HEADERS });
    // Another website cannot read the stream, but could hold all places of those who watch.
    if (context.req.header("sec-fetch-site") === "cross-site") {
      throw new ApiError(403, "Only the server's own page may watch.", { code: "cross_site" });
    }
    const stream = feed.watch();
    if (stream === undefined) {
      if (closing.aborted) throw new ApiError(503, "The server is ending.", { code: "server_ending" });
      const message = `${mostWatchers} watch already, the most that may: try again later.`;
      throw new ApiError(429, message, { code: "too_many_watchers", retryAfterMs: RETRY_MS });
    }
    return new Response(stream, { headers: HEADERS });
  });
}
