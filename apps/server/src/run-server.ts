// The life of a server: it listens, serves, and ends when the process is told to.
import process from "node:process";
import { type AppOptions, createApp } from "./app.ts";
import type { Log } from "./http/request-log.ts";
import { isLoopback } from "./listen/is-loopback.ts";
import type { Listen } from "./listen/listener.ts";

/** What is served, and where. */
export interface RunOptions extends AppOptions {
  readonly host: string;
  readonly port: number;
  /** Seconds that a connection may say nothing for, in Bun. */
  readonly idleSeconds: number;
  readonly listen: Listen;
  readonly log: Log;
  /** Seconds that requests under way may take to end, once the server is to. */
  readonly drainSeconds: number;
}

/** How long the last answers may take to be sent, after all have been made. */
const SENDING_MS = 2000;
const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * Serves until the process gets SIGTERM or SIGINT: then no connection and no request is taken any more, those under way
 * are finished, for so long as they may take, and the engine is closed. A second signal closes it at once. Resolves
 * when all is closed, with the process's exit code: 0, or 1 when requests were cut short.
 */
export async function runServer(options: RunOptions): Promise<number> {
  const { engine, host, port, idleSeconds, listen, log, drainSeconds } = options;
  const app = createApp({ ...options, loopbackOnly: options.token === undefined && isLoopback(host) });
  const stopped = Promise.withResolvers<void>();
  const hurried = Promise.withResolvers<"hurried">();
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    log({ level: "info", event: "signal", signal });
    if (++signals === 1) stopped.resolve();
    else hurried.resolve("hurried");
  };
  // Heard from before anybody can know that the server is there.
  for (const signal of SIGNALS) process.on(signal, onSignal);
  let outcome: "drained" | "late" | "hurried" = "hurried";
  try {
    const listener = listen({ host, port, idleSeconds, fetch: app.fetch });
    try {
      log({ level: "info", event: "listening", url: listener.url, model: options.modelName });
      await stopped.promise;
      const drained = app.drain().then(() => "drained" as const);
      // Streams of the page have no end of their own.
      app.close();
      const answered = listener.stopAccepting().catch(() => {});
      const late = Promise.withResolvers<"late">();
      const timer = setTimeout(() => late.resolve("late"), drainSeconds * 1000);
      outcome = await Promise.race([drained, late.promise, hurried.promise]);
      clearTimeout(timer);
      // Answers that are made are yet to be sent.
      if (outcome === "drained") await Promise.race([answered, new Promise((sent) => setTimeout(sent, SENDING_MS))]);
    } finally {
      await engine.close();
      await listener.close();
    }
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    await engine.close();
  }
  log({ level: "info", event: "closed", outcome });
  return outcome === "drained" ? 0 : 1;
}
