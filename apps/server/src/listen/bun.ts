// Listening in Bun: https://bun.com/docs/runtime/http/server
import { type ListenOptions, type Listener, urlOf } from "./listener.ts";

/**
 * Seconds that a connection may say nothing for while no request is answered: before its headers are complete, and
 * between requests.
 */
const IDLE_SECONDS = 30;

/** Begins to listen, in Bun. */
export function listenInBun({ host, port, fetch }: ListenOptions): Listener {
  const server = Bun.serve({
    hostname: host,
    port,
    idleTimeout: IDLE_SECONDS,
    development: false,
    // Bodies are counted as they are read.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch(request, bun) {
      // A request may wait for its turn: bodies and streams have deadlines of their own.
      bun.timeout(request, 0);
      return fetch(request, () => bun.timeout(request, IDLE_SECONDS));
    },
  });
  return {
    url: urlOf(host, server.port ?? port),
    stopAccepting: () => server.stop(false),
    close: () => server.stop(true),
  };
}
