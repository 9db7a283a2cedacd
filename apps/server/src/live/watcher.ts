import type { LiveMessages } from "./live-messages.ts";

/** Bytes that may wait for a slow reader; an event more is dropped. The operating system's buffers come on top. */
export const MOST_WAITING_BYTES = 64 << 10;

/** One stream of server-sent events, with a reader that may be slow or gone. Never waits, and never holds much. */
export class Watcher {
  /** The body of the response. */
  readonly body: ReadableStream<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #dropped = 0;
  #lastTakenMs: number;

  /** @param onGone called once, when the reader has gone or the stream was ended */
  constructor(onGone: (watcher: Watcher) => void, nowMs: number) {
    this.#lastTakenMs = nowMs;
    this.#gone = onGone;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        cancel: () => this.#leave(),
      },
      { highWaterMark: MOST_WAITING_BYTES, size: (bytes) => bytes?.length ?? 0 },
    );
  }

  readonly #gone: (watcher: Watcher) => void;

  /** Sends an event, or drops it when the reader has left too much unread. Returns whether it was sent. */
  send<Name extends keyof LiveMessages>(name: Name, message: LiveMessages[Name], nowMs: number): boolean {
    if (this.#controller === undefined) return false;
    if ((this.#controller.desiredSize ?? 0) <= 0) {
      this.#dropped++;
      return false;
    }
    this.#lastTakenMs = nowMs;
    if (this.#dropped > 0) {
      const events = this.#dropped;
      this.#dropped = 0;
      this.#enqueue("dropped", { events });
    }
    this.#enqueue(name, message);
    return true;
  }

  /** Milliseconds since the reader last had room for an event. */
  silentMs(nowMs: number): number {
    return nowMs - this.#lastTakenMs;
  }

  /** Ends the stream. Idempotent. */
  end(): void {
    const controller = this.#controller;
    this.#leave();
    try {
      controller?.close();
    } catch {
      // The reader has gone already.
    }
  }

  #enqueue<Name extends keyof LiveMessages>(name: Name, message: LiveMessages[Name]): void {
    this.#controller?.enqueue(this.#encoder.encode(`event: ${name}\ndata: ${JSON.stringify(message)}\n\n`));
  }

  #leave(): void {
    if (this.#controller === undefined) return;
    this.#controller = undefined;
    this.#gone(this);
  }
}
