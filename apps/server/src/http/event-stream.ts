// Server-sent events as a stream that is pulled: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** One event, whose data is JSON or a word. */
export const event = (data: unknown): string => `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

export interface EventStreamOptions {
  /** Milliseconds that a reader may take nothing for while an event is there. */
  readonly stalledMs: number;
  /** The reader went away, or took nothing for too long. `events` is left after it. */
  readonly onGone: (why: string) => void;
}

/**
 * A stream of events: the next is asked for when the reader has taken the one before, so that at most one is kept here.
 * `events` must not throw.
 */
export function eventStream(
  events: AsyncGenerator<string, void, void>,
  { stalledMs, onGone }: EventStreamOptions,
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
      const next = await events.next();
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
