// A server that continues the texts it is sent, on two ranks, and streams what comes.
import { Generator, openModel, StreamDecoder } from "@lockstep/language-model";

const [folder = "apps/demo/model", port = "0"] = process.argv.slice(2);
const [capacity, maxTokens] = [512, 24];
const model = openModel(folder);
await using generator = await Generator.open(model, { world: 2, backend: "wasm", capacity });

async function* continued(prompt: readonly number[]): AsyncGenerator<string, void> {
  const decoder = new StreamDecoder(model.tokenizer, prompt);
  for await (const token of generator.generate(prompt, { maxTokens, endTokens: model.config.endTokens })) {
    yield decoder.push(token);
  }
  yield decoder.end();
}

function streamed(prompt: readonly number[]): ReadableStream<Uint8Array> {
  const pieces = continued(prompt);
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      await pieces.return();
    },
  });
}

const server = Bun.serve({
  port: Number(port),
  async fetch(request) {
    const prompt = model.tokenizer.encode(await request.text());
    const fits = prompt.length > 0 && prompt.length + maxTokens <= capacity;
    return fits ? new Response(streamed(prompt)) : new Response("no text, or one too long\n", { status: 400 });
  },
});
console.log(`POST a text to ${server.url}`);
await new Promise((resolve) => process.once("SIGTERM", resolve));
await server.stop(true);
