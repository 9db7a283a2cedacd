// GET /v1/models: the one model that is served.
import { Hono } from "hono";
import { ApiError } from "../http/api-error.ts";
import type { ServerContext, ServerEnv } from "../server-context.ts";

/** The routes. */
export function models(server: ServerContext): Hono<ServerEnv> {
  const model = {
    id: server.modelName,
    object: "model",
    created: server.created,
    owned_by: "lockstep",
    max_model_len: server.engine.maxContext,
  };
  return new Hono<ServerEnv>()
    .get("/v1/models", (c) => c.json({ object: "list", data: [model] }))
    .get("/v1/models/:id{.+}", (c) => {
      expectModel(server, c.req.param("id"));
      return c.json(model);
    });
}

/** @throws ApiError unless it is the model that is served */
export function expectModel({ modelName }: ServerContext, name: string): void {
  if (name === modelName) return;
  const message = `There is no model ${JSON.stringify(name.slice(0, 100))}. It is ${JSON.stringify(modelName)}.`;
  throw new ApiError(404, message, { param: "model", code: "model_not_found" });
}
