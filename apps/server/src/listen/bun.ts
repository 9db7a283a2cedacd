// Listening in Bun: https://bun.com/docs/runtime/http/server
import { type ListenOptions, type Listener, urlOf } from "./listener.ts";

/** Begins to listen, in Bun. */
export function listenInBun({ host, port, idleSeconds, fetch }: ListenOptions): Listener {
  const server = Bun.serve({
    hostname: host,
    port,
    idleTimeout: idleSeconds,
    development: false,
    // Bodies are counted as they are read.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch(request, bun) {
      // A request may wait for its turn: bodies and streams have deadlines of their own.
      bun.timeout(request, 0);
      return fetch(request, () => bun.timeout(request, idleSeconds));
    },
  });
  return {
    url: urlOf(host, server.port ?? port),
    stopAccepting: () => server.stop(false),
    close: () => server.stop(true),
  };
}
