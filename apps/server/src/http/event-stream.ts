// Server-sent events as a stream that is pulled: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** One event, whose data is JSON or a word. */
export const event = (data: unknown): string => `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

/** A comment, which readers of events pass over. */
const KEEP_ALIVE = ": keep-alive\n\n";

export interface EventStreamOptions {
  /** Milliseconds to wait for an event until the reader is told that the stream lives, and from then on between such. */
  readonly keepAliveMs: number;
  /** Milliseconds that a reader may take nothing for while an event is there. */
  readonly stalledMs: number;
  /** The reader went away, or took nothing for too long. `events` is left after it. */
  readonly onGone: (why: string) => void;
}

/**
 * A stream of events: the next is asked for when the reader has taken the one before, so that at most one is kept here.
 * `events` must not throw. While the next is waited for, comments show that the stream lives.
 */
export function eventStream(
  events: AsyncGenerator<string, void, void>,
  { keepAliveMs, stalledMs, onGone }: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let stalled: ReturnType<typeof setTimeout> | undefined;
  let isOver = false;
  const leave = (why: string): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(stalled);
    onGone(why);
    events.return().catch(() => {});
  };
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      clearTimeout(stalled);
      // One that was not taken yet is enough.
      const alive = setInterval(() => {
        if (!isOver && (controller.desiredSize ?? 0) > 0) controller.enqueue(encoder.encode(KEEP_ALIVE));
      }, keepAliveMs);
      const next = await events.next().finally(() => clearInterval(alive));
      if (isOver) return;
      if (next.done) {
        isOver = true;
        controller.close();
        return;
      }
      controller.enqueue(encoder.encode(next.value));
      stalled = setTimeout(() => {
        const why = `the reader took nothing for ${stalledMs / 1000} s`;
        leave(why);
        controller.error(new Error(why));
      }, stalledMs);
    },
    cancel() {
      leave("the client went away");
    },
  });
}
