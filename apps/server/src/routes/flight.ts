// GET /debug/flight: what every rank is doing right now, also while one hangs. It asks the ranks nothing: it reads the
// memory that they share with this process.
import { formatFlightRecord } from "@lockstep/dist-groups";
import { Hono } from "hono";
import { ApiError } from "../http/api-error.ts";
import { RETRY_LATER_MS } from "../http/engine-error.ts";
import type { ServerContext, ServerEnv } from "../server-context.ts";

/** Most collectives of each rank that the table tells; a ring has no more. */
const MOST_TOLD = 256;

/** The route: JSON, or with `?format=text` or `Accept: text/plain` a table of the `last` collectives of each rank. */
export function flight({ engine }: ServerContext): Hono<ServerEnv> {
  return new Hono<ServerEnv>().get("/debug/flight", (c) => {
    const { format = prefersText(c.req.header("accept")) ? "text" : "json", last = "3" } = c.req.query();
    if (format !== "json" && format !== "text") throw ApiError.field("format", "must be json or text.");
    const count = /^\d{1,3}$/.test(last) ? Number(last) : 0;
    if (count < 1 || count > MOST_TOLD) throw ApiError.field("last", `must be a number from 1 to ${MOST_TOLD}.`);
    const { state } = engine.status();
    if (state !== "ready") {
      const message = `There are no ranks to tell about: the engine is ${state}.`;
      throw new ApiError(503, message, { code: state, retryAfterMs: RETRY_LATER_MS });
    }
    const record = engine.flightRecord();
    if (format === "json") return c.json(record);
    return c.body(`${formatFlightRecord(record, count)}\n`, 200, { "content-type": "text/plain; charset=utf-8" });
  });
}

function prefersText(accept = ""): boolean {
  return /\btext\/plain\b/.test(accept) && !/\bapplication\/json\b/.test(accept);
}
