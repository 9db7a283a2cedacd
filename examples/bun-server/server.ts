// Attention as a service, over a KV cache that is spread over four ranks.
import { openWorld } from "@lockstep/dist-groups";
import { SHAPE, type Token } from "./program.ts";

const world = await openWorld<typeof import("./program.ts")>({
  size: 4,
  program: new URL("./program.ts", import.meta.url),
});
const open = new Set<number>();

function isToken(token: Partial<Record<keyof Token, unknown>> | null): token is Token {
  const { queryHeads, kvHeads, headDim } = SHAPE;
  const isList = (list: unknown, heads: number): boolean =>
    Array.isArray(list) && list.length === heads * headDim && list.every((element) => Number.isFinite(element));
  return isList(token?.query, queryHeads) && isList(token?.key, kvHeads) && isList(token?.value, kvHeads);
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 0),
  routes: {
    "/sequences": {
      POST: async () => {
        // Every rank makes the same calls, so it has the same numbers.
        const [sequence = -1] = await world.call("create", []);
        open.add(sequence);
        return Response.json({ sequence });
      },
    },
    "/sequences/:id": {
      DELETE: async ({ params }) => {
        const sequence = Number(params.id);
        if (!open.delete(sequence)) return new Response("no such sequence\n", { status: 404 });
        await world.call("free", [sequence]);
        return new Response(null, { status: 204 });
      },
    },
    "/sequences/:id/decode": {
      POST: async (request) => {
        const sequence = Number(request.params.id);
        if (!open.has(sequence)) return new Response("no such sequence\n", { status: 404 });
        const token = await request.json().catch(() => null);
        if (!isToken(token)) return new Response("expected query, key and value\n", { status: 400 });
        const ranks = await world.call("decode", [sequence, token], { deadlineMs: 5000 });
        return Response.json({ out: ranks.flatMap(({ out }) => out), held: ranks.map(({ held }) => held) });
      },
    },
  },
});

console.log(`attention at ${server.url}`);
process.once("SIGTERM", async () => {
  await server.stop(true);
  await world.close();
});
