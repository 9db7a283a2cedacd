// GET /health: whether the server would serve a request now. For everybody.
import { Hono } from "hono";
import type { ServerContext, ServerEnv } from "../server-context.ts";

/** The route. */
export function health({ engine, modelName, admission }: ServerContext): Hono<ServerEnv> {
  return new Hono<ServerEnv>().get("/health", (c) => {
    const { state, running, waiting, blocks } = engine.status();
    const told = admission.isDraining ? "draining" : state;
    const body = {
      state: told,
      model: modelName,
      ranks: engine.ranks,
      max_context: engine.maxContext,
      running,
      waiting,
      kv_blocks: blocks,
    };
    return c.json(body, told === "ready" ? 200 : 503);
  });
}
