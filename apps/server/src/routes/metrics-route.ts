// GET /metrics: for Prometheus.
import { Hono } from "hono";
import type { ServerContext, ServerEnv } from "../server-context.ts";

/** The route. */
export function metricsRoute({ metrics }: ServerContext): Hono<ServerEnv> {
  return new Hono<ServerEnv>().get("/metrics", async (c) =>
    c.body(await metrics.text(), 200, { "content-type": metrics.contentType }),
  );
}
