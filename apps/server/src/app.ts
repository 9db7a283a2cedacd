// The server as a function from requests to answers, for any runtime that has those of the Fetch standard.
import type { TextEngine } from "@lockstep/language-model";
import { Hono } from "hono";
import { Activity } from "./activity.ts";
import { Admission } from "./http/admission.ts";
import { ApiError } from "./http/api-error.ts";
import { answerFor } from "./http/engine-error.ts";
import { bearerCheck } from "./http/bearer-token.ts";
import { type Log, requestId } from "./http/request-log.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import { ServerMetrics } from "./metrics.ts";
import { noteError } from "./openai/answer.ts";
import { chatCompletions } from "./openai/chat-completions.ts";
import { completions } from "./openai/completions.ts";
import { models } from "./openai/models.ts";
import type { MakePageRoutes } from "./page-routes.ts";
import type { PromptTokenizer } from "./tokenize/prompt-tokenizer.ts";
import { flight } from "./routes/flight.ts";
import { health } from "./routes/health.ts";
import { type Resize, resizeRoute } from "./routes/resize.ts";
import { metricsRoute } from "./routes/metrics-route.ts";
import type { RequestRecord, ServerContext, ServerEnv } from "./server-context.ts";

/** What a server is made of. */
export interface AppOptions {
  readonly engine: TextEngine;
  /** As requests name it, and /v1/models tells it. */
  readonly modelName: string;
  readonly tokenizer: PromptTokenizer;
  readonly limits?: Partial<Limits>;
  /** Wanted by all but /health and the page's files, as `Authorization: Bearer TOKEN`. Default: none. */
  readonly token?: string | undefined;
  /**
   * Whether a request's host must be of this machine: an address of the loopback or localhost. So that no website can
   * reach the server through its reader's browser, under a name that it makes lead here. Default false.
   */
  readonly loopbackOnly?: boolean;
  /** Default: none is written. */
  readonly log?: Log;
  /** Gives the engine other ranks: POST /admin/resize. Default: there is no such path. */
  readonly resize?: Resize;
  /** Default: no page. */
  readonly page?: MakePageRoutes;
}

/** A server. */
export interface ServerApp {
  /** Answers a request. Never throws. Calls `onAnswered` when the answer has ended: a stream's, with its last event. */
  readonly fetch: (request: Request, onAnswered?: () => void) => Promise<Response>;
  /** What is generated, as it happens. */
  readonly activity: Activity;
  /** Takes no more requests that generate (503); resolves when those that were taken have been answered. */
  drain(): Promise<void>;
  /** Ends the page's streams. */
  close(): void;
}

/** Methods of the paths that there are. */
const METHODS: Readonly<Record<string, string>> = {
  "/health": "GET, HEAD",
  "/metrics": "GET, HEAD",
  "/debug/flight": "GET, HEAD",
  "/v1/models": "GET, HEAD",
  "/v1/completions": "POST",
  "/v1/chat/completions": "POST",
  "/admin/resize": "POST",
};

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Makes a server of an engine. */
export function createApp(options: AppOptions): ServerApp {
  const { engine, modelName, tokenizer, token, loopbackOnly = false, log = () => {} } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const admission = new Admission(limits.requests);
  const metrics = new ServerMetrics(engine, () => admission.inFlight);
  const activity = new Activity();
  const created = Math.floor(Date.now() / 1000);
  const server: ServerContext = { engine, modelName, created, tokenizer, limits, activity, admission, metrics, log };
  const closing = new AbortController();
  const page = options.page?.({
    engine,
    activity,
    modelName,
    textOf: (id) => tokenizer.textOf(id),
    needsToken: token !== undefined,
    closing: closing.signal,
  });

  const app = new Hono<ServerEnv>();
  app.use(async (c, next) => {
    const record = recordOf(server, c.req.raw, () => c.res.status, c.env.onAnswered);
    c.set("record", record);
    await next();
    c.header("x-request-id", record.id);
    if (!record.isStream) record.end(c.res.headers.get("content-type")?.startsWith("text/event-stream"));
  });
  app.use(async (c, next) => {
    if (loopbackOnly) expectLoopback(c.req.url);
    await next();
  });
  app.onError((error, c) => {
    const told = answerFor(error);
    noteError(server, c.get("record"), error);
    return c.json(told.body, told.status, told.headers);
  });
  app.route("/", health(server));
  if (page !== undefined) app.route("/", page.files);
  if (token !== undefined) {
    const isRight = bearerCheck(token);
    app.use(async (c, next) => {
      if (!isRight(c.req.header("authorization"))) throw wrongToken(c.req.header("authorization") !== undefined);
      await next();
    });
  }
  // Before a body is read, so that there are no more bodies than requests.
  for (const path of ["/v1/completions", "/v1/chat/completions"]) {
    app.post(path, async (c, next) => {
      c.get("record").onEnd.push(admission.enter());
      await next();
    });
  }
  for (const routes of [models(server), completions(server), chatCompletions(server), metricsRoute(server)]) {
    app.route("/", routes);
  }
  app.route("/", flight(server));
  if (options.resize !== undefined) app.route("/", resizeRoute(server, options.resize));
  if (page !== undefined) app.route("/", page.live);
  app.notFound((c) => {
    const { path, method } = c.req;
    const isLeftOut = path === "/admin/resize" && options.resize === undefined;
    const known = isLeftOut ? undefined : METHODS[path];
    const allow = known ?? (path.startsWith("/v1/models/") ? "GET, HEAD" : undefined);
    const shown = JSON.stringify(path.slice(0, 100));
    const error =
      allow === undefined
        ? new ApiError(404, `There is no ${shown} here.`, { code: "not_found" })
        : new ApiError(405, `${shown} takes ${allow}, but ${method.slice(0, 20)} came.`, {
            code: "method_not_allowed",
            headers: { allow },
          });
    c.get("record").more.error = error.details.code;
    return c.json(error.body, error.status, error.headers);
  });

  return {
    activity,
    async fetch(request, onAnswered = () => {}) {
      if (URL.canParse(request.url)) return app.fetch(request, { onAnswered });
      return withoutHost(server, request, onAnswered);
    },
    drain: () => admission.drain(),
    close: () => closing.abort(),
  };
}

/** Path of a route, for metrics: requests cannot make up names. */
function routeOf(path: string): string {
  if (path.startsWith("/v1/models/")) return "/v1/models/:id";
  return path in METHODS || path === "/" || path === "/events" ? path : "other";
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

function recordOf(
  { log, metrics }: ServerContext,
  request: Request,
  status: () => number,
  onAnswered: () => void,
): RequestRecord {
  const started = performance.now();
  const id = requestId(request.headers.get("x-request-id") ?? undefined);
  const path = URL.canParse(request.url) ? new URL(request.url).pathname : "";
  const method = KNOWN_METHODS.has(request.method) ? request.method : "other";
  let hasEnded = false;
  const record: RequestRecord = {
    id,
    more: {},
    isStream: false,
    onEnd: [],
    end(goesOn = false) {
      if (hasEnded) return;
      hasEnded = true;
      if (!goesOn) onAnswered();
      for (const heard of record.onEnd) heard();
      const ms = performance.now() - started;
      const code = status();
      metrics.answered(routeOf(path), method, code, ms / 1000);
      log({
        level: code >= 500 ? "warn" : "info",
        event: "request",
        request_id: id,
        method,
        path: path.slice(0, 200),
        status: code,
        ms: Math.round(ms * 10) / 10,
        ...record.more,
      });
    },
  };
  return record;
}

/** Answers a request of which nobody knows for which host it is: its header Host is wrong, or, in HTTP/1.0, missing. */
function withoutHost(server: ServerContext, request: Request, onAnswered: () => void): Response {
  const error = new ApiError(400, "The request's header Host must be a host, as in 127.0.0.1:8000.", {
    code: "invalid_host",
  });
  const record = recordOf(server, request, () => error.status, onAnswered);
  record.more.error = error.details.code;
  record.end();
  return Response.json(error.body, {
    status: error.status,
    headers: { ...error.headers, "x-request-id": record.id },
  });
}

function expectLoopback(url: string): void {
  const { hostname } = new URL(url);
  if (LOOPBACK.test(hostname)) return;
  const message =
    `This server is for its own machine, but the request is for ${JSON.stringify(hostname.slice(0, 100))}. ` +
    "Name it by 127.0.0.1 or localhost, or give it a token.";
  throw new ApiError(403, message, { code: "wrong_host" });
}

function wrongToken(isGiven: boolean): ApiError {
  const message = isGiven
    ? "The token is not the server's."
    : "A token is wanted: send it as `Authorization: Bearer TOKEN`.";
  return new ApiError(401, message, { code: "invalid_api_key", headers: { "www-authenticate": "Bearer" } });
}
