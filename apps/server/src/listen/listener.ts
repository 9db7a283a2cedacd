/** Where a server listens, and what answers. */
export interface ListenOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /**
   * Seconds that a connection may say nothing for while no request is answered: before its headers are complete, and
   * between requests. From 1 to 255. Deno has no such limit.
   */
  readonly idleSeconds: number;
  /** Answers a request. Never throws. Calls `onAnswered` when the answer has ended. */
  readonly fetch: (request: Request, onAnswered: () => void) => Promise<Response>;
}

/** A runtime's HTTP server. */
export interface Listener {
  /** As in `http://127.0.0.1:8000`. */
  readonly url: string;
  /** Takes no more connections; those that there are go on. Resolves when all requests are answered. */
  stopAccepting(): Promise<void>;
  /** Ends all connections; in Deno not those of a server that takes no more already. */
  close(): Promise<void>;
}

/** Begins to listen. @throws what the runtime throws, as for a port that is taken */
export type Listen = (options: ListenOptions) => Listener;

/** The address of a host and a port. */
export const urlOf = (host: string, port: number): string =>
  `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
