// Listening in Deno: https://docs.deno.com/api/deno/~/Deno.serve
import { type ListenOptions, type Listener, urlOf } from "./listener.ts";

/** What is used of Deno, whose types are those of its own compiler. */
interface DenoServe {
  serve(options: {
    readonly hostname: string;
    readonly port: number;
    readonly signal: AbortSignal;
    readonly onListen: () => void;
    readonly handler: (request: Request) => Promise<Response>;
  }): {
    readonly addr: { readonly port: number };
    readonly finished: Promise<void>;
    shutdown(): Promise<void>;
  };
}

declare const Deno: DenoServe;

/** Begins to listen, in Deno. */
export function listenInDeno({ host, port, fetch }: ListenOptions): Listener {
  const abort = new AbortController();
  const server = Deno.serve({
    hostname: host,
    port,
    signal: abort.signal,
    onListen() {},
    handler: (request) => fetch(request, () => {}),
  });
  let isStopping = false;
  return {
    url: urlOf(host, server.addr.port),
    stopAccepting() {
      isStopping = true;
      return server.shutdown();
    },
    async close() {
      // Deno has let go of a server that shuts down: its connections end with their requests, or with the process.
      if (isStopping) return;
      abort.abort();
      await server.finished;
    },
  };
}
