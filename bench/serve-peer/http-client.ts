// A client of a server in OpenAI's form: reads a text as it streams.
import type { TextPart } from "./clients.ts";
import { piecesOf } from "./pieces.ts";
import type { TextRequest } from "./requests.ts";

/** What requests call the model, on both sides. */
export const MODEL_NAME = "peer";

/** Begins a server-sent event. */
const DATA = "data: ";

/** Asks `url` for a text. @throws Error when the answer is no text, or one of another length */
export async function* askOverHttp(url: string, { prompt, maxTokens }: TextRequest): AsyncGenerator<TextPart, void> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: MODEL_NAME,
      prompt,
      max_tokens: maxTokens,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (response.status !== 200 || response.body === null) {
    throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  }
  let made = 0;
  for await (const event of piecesOf(response.body, "\n\n")) {
    if (!event.startsWith(DATA)) continue;
    const data = event.slice(DATA.length);
    if (data === "[DONE]") {
      if (made !== maxTokens) throw new Error(`${url} made ${made} tokens instead of ${maxTokens}`);
      return;
    }
    const { choices, usage, error } = JSON.parse(data);
    if (error !== undefined) throw new Error(`${url}: ${error.message}`);
    made = usage?.completion_tokens ?? made;
    const text: unknown = choices?.[0]?.text;
    if (typeof text === "string" && text !== "") yield { text, tokens: [] };
  }
  throw new Error(`the stream of ${url} ended early`);
}
