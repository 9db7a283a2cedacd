// So many clients at once, each asking for its next text when it has read the last: of an engine, or of a server.
import type { TextRequest } from "./requests.ts";

/** A part of a text, as it comes. */
export interface TextPart {
  readonly text: string;
  readonly tokens: readonly number[];
}

/** A text, and when its first part came. */
export interface Answer {
  readonly text: string;
  /** Empty where only the text is told. */
  readonly tokens: readonly number[];
  readonly firstMs: number;
}

/** What clients got, in the order of the requests, and how long all took. */
export interface Load {
  readonly answers: readonly Answer[];
  readonly seconds: number;
}

/** Has `clients` ask for all. @throws what `ask` throws, when all clients have ended */
export async function runClients(
  requests: readonly TextRequest[],
  clients: number,
  ask: (request: TextRequest) => AsyncIterable<TextPart>,
): Promise<Load> {
  const answers: Answer[] = [];
  const waiting = requests.entries();
  const client = async (): Promise<void> => {
    for (const [index, request] of waiting) answers[index] = await answerTo(request, ask);
  };
  const started = performance.now();
  const ended = await Promise.allSettled(Array.from({ length: clients }, client));
  const seconds = (performance.now() - started) / 1000;
  for (const outcome of ended) if (outcome.status === "rejected") throw outcome.reason;
  return { answers, seconds };
}

async function answerTo(request: TextRequest, ask: (request: TextRequest) => AsyncIterable<TextPart>): Promise<Answer> {
  const started = performance.now();
  const tokens: number[] = [];
  let [text, firstMs] = ["", Number.NaN];
  for await (const part of ask(request)) {
    if (Number.isNaN(firstMs)) firstMs = performance.now() - started;
    text += part.text;
    tokens.push(...part.tokens);
  }
  return { text, tokens, firstMs };
}
