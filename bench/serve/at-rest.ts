import type { Served } from "./served.ts";

/** Resolves when nothing is computed any more, or after 10 s; with the KV blocks that are held then. */
export async function blocksHeld(server: Served): Promise<number> {
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; await Bun.sleep(20)) {
    const { running, waiting, kv_blocks } = await server.health();
    if (running + waiting + kv_blocks.used === 0) return 0;
  }
  return (await server.health()).kv_blocks.used;
}
