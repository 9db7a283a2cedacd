// Clients that ask a server for texts, so many at once.

/** A text to ask for. */
export interface Ask {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: number;
  /** Leave the stream after so many parts; undefined: read all. */
  readonly leaveAfter: number | undefined;
}

/** What came of it. */
export interface Answered {
  readonly text: string;
  readonly tokens: number;
  /** Milliseconds until the first part of the text. */
  readonly firstMs: number;
  /** Milliseconds until the end. */
  readonly ms: number;
  /** Why it is no answer. */
  readonly error: string | undefined;
  readonly hasLeft: boolean;
}

/** Asks for all, `clients` at once, each the next when its last is answered. In the order of `asks`. */
export async function load(
  url: string,
  asks: readonly Ask[],
  clients: number,
  onAnswered: (count: number) => Promise<void> = async () => {},
): Promise<Answered[]> {
  const answers: Answered[] = [];
  let next = 0;
  let count = 0;
  const client = async (): Promise<void> => {
    for (let index = next++; index < asks.length; index = next++) {
      const ask = asks[index];
      if (ask === undefined) return;
      answers[index] = await answerTo(url, ask);
      await onAnswered(++count);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return answers;
}

async function answerTo(url: string, ask: Ask): Promise<Answered> {
  const started = performance.now();
  const abort = new AbortController();
  let [text, tokens, firstMs, parts] = ["", 0, Number.NaN, 0];
  let hasLeft = false;
  const done = (error?: string): Answered => {
    return { text, tokens, firstMs, ms: performance.now() - started, error: hasLeft ? undefined : error, hasLeft };
  };
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      signal: abort.signal,
      body: JSON.stringify({
        model: "demo",
        prompt: ask.prompt,
        max_tokens: ask.maxTokens,
        temperature: ask.temperature,
        seed: ask.seed,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    if (response.status !== 200 || response.body === null) return done(`${response.status} ${await response.text()}`);
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return done();
      const { choices, usage, error } = JSON.parse(data);
      if (error !== undefined) return done(error.message);
      tokens = usage?.completion_tokens ?? tokens;
      const said: string = choices?.[0]?.text ?? "";
      if (said === "") continue;
      if (text === "") firstMs = performance.now() - started;
      text += said;
      if (++parts === ask.leaveAfter) {
        hasLeft = true;
        abort.abort();
      }
    }
    return done("the stream ended early");
  } catch (error) {
    return done(error instanceof Error ? error.message : String(error));
  }
}

/** Data of server-sent events, one line each. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of body) {
    const blocks = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) if (block.startsWith("data: ")) yield block.slice("data: ".length);
  }
}
