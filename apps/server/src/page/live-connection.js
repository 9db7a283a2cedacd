// The stream of what the engine does: opened, read, and opened again when it ends.
import { accessGranted, accessHeaders, askForToken } from "./access.js";
import { readEvents } from "./event-stream.js";

/** @typedef {import("../live/live-messages.ts").LiveMessages} LiveMessages */
/** @typedef {{ [Name in keyof LiveMessages]: (message: LiveMessages[Name]) => void }} Handlers */
/** @typedef {"connecting" | "open" | "away" | "token" | "refused" | "paused"} Connection */

/** Milliseconds without an event after which a stream counts as broken: the server speaks every 5 s. */
const SILENT_MS = 15_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;

/** Keeps one stream open while it is wanted. */
export class LiveConnection {
  /** @type {Handlers} */
  #handlers;
  /** @type {(connection: Connection, why: string) => void} */
  #onChange;
  /** @type {AbortController | undefined} */
  #run;

  /**
   * @param {Handlers} handlers what is done with each event
   * @param {(connection: Connection, why: string) => void} onChange hears how the connection is
   */
  constructor(handlers, onChange) {
    this.#handlers = handlers;
    this.#onChange = onChange;
  }

  /** Opens the stream, again if it is open. */
  start() {
    this.#run?.abort();
    this.#run = new AbortController();
    void this.#keepOpen(this.#run.signal);
  }

  /** Closes the stream: the server has no work with this page any more. */
  stop() {
    this.#run?.abort();
    this.#run = undefined;
    this.#onChange("paused", "");
  }

  /** @param {AbortSignal} ends */
  async #keepOpen(ends) {
    let retryMs = FIRST_RETRY_MS;
    this.#onChange("connecting", "");
    while (!ends.aborted) {
      let [state, why, waitMs] = /** @type {[Connection, string, number]} */ (["away", "", retryMs]);
      const broken = new AbortController();
      const signal = AbortSignal.any([ends, broken.signal]);
      let timer = setTimeout(() => broken.abort(), SILENT_MS);
      try {
        const response = await fetch("/events", { headers: accessHeaders(), cache: "no-store", signal });
        if (response.status === 401) {
          if (ends.aborted) return;
          askForToken();
          this.#onChange("token", "");
          return;
        }
        if (response.ok && response.body !== null) {
          accessGranted();
          this.#onChange("open", "");
          for await (const { name, data } of readEvents(response.body)) {
            if (ends.aborted) return;
            clearTimeout(timer);
            timer = setTimeout(() => broken.abort(), SILENT_MS);
            retryMs = FIRST_RETRY_MS;
            this.#handle(name, data);
          }
        } else {
          why = await problemOf(response);
          state = "refused";
          waitMs = Math.max(retryMs, Number(response.headers.get("retry-after") ?? 0) * 1000);
        }
      } catch (error) {
        // The server is away, or the stream broke.
        if (!ends.aborted && !(error instanceof TypeError || error instanceof DOMException)) throw error;
      } finally {
        clearTimeout(timer);
      }
      if (ends.aborted) return;
      this.#onChange(state, why);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
    }
  }

  /**
   * @param {string} name
   * @param {string} data
   */
  #handle(name, data) {
    if (Object.hasOwn(this.#handlers, name)) {
      this.#handlers[/** @type {keyof LiveMessages} */ (name)](JSON.parse(data));
    }
  }
}

/**
 * What a response that is an error says, in OpenAI's form or not.
 * @param {Response} response
 * @returns {Promise<string>}
 */
export async function problemOf(response) {
  const text = await response.text().catch(() => "");
  try {
    return String(JSON.parse(text).error.message);
  } catch {
    return `The server answered ${response.status}.`;
  }
}
