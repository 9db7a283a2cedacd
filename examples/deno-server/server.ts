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

async function answer(request: Request): Promise<Response> {
  const [, , id, verb] = new URL(request.url).pathname.split("/");
  const sequence = Number(id);
  switch (`${request.method} ${verb ?? ""}`) {
    case "POST ": {
      // Every rank makes the same calls, so it has the same numbers.
      const [created = -1] = await world.call("create", []);
      open.add(created);
      return Response.json({ sequence: created });
    }
    case "POST decode": {
      if (!open.has(sequence)) return new Response("no such sequence\n", { status: 404 });
      const token = await request.json().catch(() => null);
      if (!isToken(token)) return new Response("expected query, key and value\n", { status: 400 });
      const ranks = await world.call("decode", [sequence, token], { deadlineMs: 5000 });
      return Response.json({ out: ranks.flatMap(({ out }) => out), held: ranks.map(({ held }) => held) });
    }
    case "DELETE ":
      if (!open.delete(sequence)) return new Response("no such sequence\n", { status: 404 });
      await world.call("free", [sequence]);
      return new Response(null, { status: 204 });
    default:
      return new Response("not found\n", { status: 404 });
  }
}

const server = Deno.serve({
  hostname: "127.0.0.1",
  port: Number(Deno.env.get("PORT") ?? 0),
  handler: answer,
  onListen: ({ port }) => console.log(`attention at http://127.0.0.1:${port}/`),
});
Deno.addSignalListener("SIGTERM", async () => {
  await server.shutdown();
  await world.close();
  Deno.exit();
});
