// The least that streams a text in OpenAI's form.
import type { TextPart } from "./clients.ts";
import type { TextRequest } from "./requests.ts";

/** A route that answers with the parts that `generate` makes. */
export function completionsRoute(generate: (request: TextRequest) => AsyncIterable<TextPart>) {
  return async (request: Request): Promise<Response> => {
    const { prompt, max_tokens: maxTokens } = await request.json();
    const sent = events(generate({ prompt, maxTokens }), prompt.length);
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await sent.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await sent.return();
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
}

async function* events(parts: AsyncIterable<TextPart>, promptTokens: number): AsyncGenerator<Uint8Array, void> {
  const encoder = new TextEncoder();
  const event = (data: string): Uint8Array => encoder.encode(`data: ${data}\n\n`);
  let made = 0;
  for await (const { text, tokens } of parts) {
    made += tokens.length;
    if (text !== "") yield event(JSON.stringify({ object: "text_completion", choices: [{ index: 0, text }] }));
  }
  const usage = { prompt_tokens: promptTokens, completion_tokens: made };
  yield event(JSON.stringify({ object: "text_completion", choices: [], usage }));
  yield event("[DONE]");
}
