// Server-sent events, read from a body: EventSource cannot send a token.

/** Characters of one event that are too many: it is no such stream. */
const LONGEST_EVENT = 4 << 20;

/**
 * The events of a body, as they come. Comments, ids and retry times are left out.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<{ readonly name: string, readonly data: string }, void, void>}
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let name = "message";
  /** @type {string[]} */
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      if (rest.length > LONGEST_EVENT) throw new Error("the stream has an event that does not end");
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) yield { name, data: data.join("\n") };
          name = "message";
          data = [];
        } else if (line.startsWith("event:")) name = line.slice(6).trimStart();
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
