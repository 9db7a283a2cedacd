// Clients that hold connections without need: that read slowly, that do not end what they begin to say, that leave in
// the middle, that send a megabyte.
import type { Answered, Ask } from "./load.ts";
import type { Traffic } from "./neighbours.ts";
import { RawConnection } from "./raw-connection.ts";

/** How long a slow reader takes nothing, and a connection says nothing, before it goes on or goes away. */
const IDLE_MS = 3000;
const ANSWER_MS = 60_000;
const HEAD = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
const KINDS = ["slow", "half-open", "cut short", "a megabyte"] as const;

const request = (body: string, length = Buffer.byteLength(body)): string =>
  `${HEAD}Connection: close\r\nContent-Length: ${length}\r\n\r\n${body}`;

/**
 * Rude clients of each kind in turn. What they should get:
 * - who reads nothing for 3 s: all of its text, the right one, when it does read; in quiet turns it reads at once;
 * - who says half of a request's head and no more for 3 s: no answer;
 * - who ends in the middle of the body: 400, or no answer;
 * - who sends a prompt of a megabyte: 400.
 * @param texts what slow readers ask for, @param alone and should get
 */
export function rudeClients(url: string, texts: readonly Ask[], alone: readonly Answered[]): Traffic {
  const megabyte = request(JSON.stringify({ model: "demo", prompt: "In the beginning ".repeat(61_000) }));
  const read = async (index: number, idleMs: number): Promise<boolean> => {
    const at = Math.floor(index / KINDS.length) % texts.length;
    const ask = texts[at];
    if (ask === undefined) return false;
    using client = new RawConnection(url);
    if (idleMs > 0) client.pause();
    const { prompt, maxTokens: max_tokens, temperature, seed } = ask;
    client.write(request(JSON.stringify({ model: "demo", prompt, max_tokens, temperature, seed, stream: true })));
    await Bun.sleep(idleMs);
    client.resume();
    await within(client.ended, ANSWER_MS);
    return client.status === 200 && streamedText(client.text) === alone[at]?.text;
  };
  const rude: Readonly<Record<(typeof KINDS)[number], (index: number) => Promise<boolean>>> = {
    slow: (index) => read(index, IDLE_MS),
    async "half-open"(index) {
      using client = new RawConnection(url);
      client.write(HEAD.slice(0, index % HEAD.length));
      await Bun.sleep(IDLE_MS);
      return client.status === undefined;
    },
    async "cut short"() {
      using client = new RawConnection(url);
      client.write(request('{"model":"demo","prompt":"In the begin', 1000));
      client.end();
      await within(client.ended, ANSWER_MS);
      return client.status === undefined || client.status === 400;
    },
    async "a megabyte"() {
      using client = new RawConnection(url);
      client.write(megabyte);
      await within(client.ended, ANSWER_MS);
      return client.status === 400 && client.text.includes("context_length_exceeded");
    },
  };
  return {
    send: (index) => rude[KINDS[index % KINDS.length] ?? "slow"](index),
    sendQuietly: async (index) => KINDS[index % KINDS.length] !== "slow" || read(index, 0),
  };
}

/** The text of a stream's events, chunked or not; undefined unless it came to its end. */
function streamedText(received: string): string | undefined {
  if (!received.includes("data: [DONE]")) return undefined;
  const events = received.matchAll(/^data: (\{.*\})\r?$/gm);
  return [...events].map(([, data = "{}"]) => JSON.parse(data).choices?.[0]?.text ?? "").join("");
}

async function within(done: Promise<void>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([done, late]);
  clearTimeout(timer);
}
