// POST /admin/resize: goes on with other ranks, or another layout, in the middle of texts. Only where the server was
// told to have it.
import type { ResizeChanges } from "@lockstep/language-model";
import { Hono } from "hono";
import { z } from "zod";
import { ApiError } from "../http/api-error.ts";
import { readJson } from "../http/read-json.ts";
import { MOST_RANKS } from "../limits.ts";
import { readFields } from "../openai/fields.ts";
import type { ServerContext, ServerEnv } from "../server-context.ts";

/** Gives an engine other ranks; `signal` ends it while the old ones can go on. */
export type Resize = (changes: ResizeChanges, options: { readonly signal: AbortSignal }) => Promise<void>;

/** After so long another resize may be over. */
const RETRY_MS = 5000;

const count = z.int().min(1);
const shares = z.array(z.int().min(0)).min(1).max(MOST_RANKS);
const schema = z.strictObject({
  ranks: count.max(MOST_RANKS).optional(),
  dcp: count.max(MOST_RANKS).optional(),
  interleave: count.optional(),
  block_size: count.optional(),
  kv_weights: shares.optional(),
  kv_bytes: shares.optional(),
  kv_tokens: count.optional(),
});

/** The route. One resize at a time. */
export function resizeRoute({ engine, limits, admission, log }: ServerContext, resize: Resize): Hono<ServerEnv> {
  let isUnderWay = false;
  return new Hono<ServerEnv>().post("/admin/resize", async (c) => {
    const changes = changesOf(readFields(schema, await readJson(c.req.raw, limits)));
    // Whoever drains waits for this as well.
    c.get("record").onEnd.push(admission.enter());
    if (isUnderWay) {
      const message = "Another resize is under way: wait until it is over.";
      throw new ApiError(409, message, { code: "resize_under_way", retryAfterMs: RETRY_MS });
    }
    isUnderWay = true;
    const started = performance.now();
    try {
      await resize(changes, { signal: c.req.raw.signal });
    } finally {
      isUnderWay = false;
    }
    const ms = Math.round(performance.now() - started);
    const { running, waiting, blocks, rankBlockTokens } = engine.status();
    log({ level: "info", event: "resized", ranks: engine.ranks, ms });
    return c.json({ ranks: engine.ranks, rank_block_tokens: rankBlockTokens, running, waiting, kv_blocks: blocks, ms });
  });
}

/** What is left out stays as it is; with other ranks, how they share KV caches is chosen anew unless it is given. */
function changesOf(body: z.output<typeof schema>): ResizeChanges {
  const { ranks, dcp, interleave, block_size: blockSize, kv_weights: kvWeights, kv_bytes: kvBytes } = body;
  const { kv_tokens: kvTokens } = body;
  const given = Object.entries({ world: ranks, dcp, interleave, blockSize, kvWeights, kvBytes, kvTokens });
  const changes: ResizeChanges = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  if (ranks !== undefined) return { dcp, kvWeights, kvBytes, ...changes };
  if (Object.keys(changes).length > 0) return changes;
  const message = `The body must have some of ${Object.keys(schema.shape).join(", ")}: what is to become another.`;
  throw new ApiError(400, message, { code: "missing_field" });
}
