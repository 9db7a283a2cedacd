// Lockstep's side: an engine, and the app of apps/server before it.
import { Engine, type GeneratedPart, openModel } from "@lockstep/language-model";
import { type AppOptions, createApp } from "@lockstep/server/app";
import type { TextPart } from "./clients.ts";
import { MODEL_NAME } from "./http-client.ts";
import { obey, readJob } from "./orders.ts";

const { model: folder, parallel, context, texts, kvDtype } = readJob();
const model = openModel(folder);
const tokenizer: AppOptions["tokenizer"] = {
  longestToken: context,
  encode: (text) => model.tokenizer.encode(text),
  encodeChat() {
    throw new Error("expected a prompt of /v1/completions, but messages came: ask for no chats here");
  },
  textOf: (token) => model.tokenizer.decode([token]),
  decode: (tokens) => model.tokenizer.decode(tokens),
};
await using engine = await Engine.open(model, {
  world: parallel,
  backend: "wasm",
  kvDtype,
  maxContext: context,
  kvTokens: context * texts,
  maxRunning: texts,
  // Both sides compute every prompt.
  prefixCache: false,
});
const app = createApp({ engine, modelName: MODEL_NAME, tokenizer });
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  idleTimeout: 255,
  fetch: (request) => app.fetch(request),
});
const about = `${engine.ranks} ${engine.ranks === 1 ? "rank" : "ranks"}`;
await obey({ url: `http://127.0.0.1:${server.port}`, about }, ({ prompt, maxTokens }) =>
  idsOf(engine.generate(prompt, { maxTokens, temperature: 0, ignoreEnd: true })),
);
await server.stop(true);

async function* idsOf(parts: AsyncIterable<GeneratedPart>): AsyncGenerator<TextPart, void> {
  for await (const { text, tokens } of parts) yield { text, tokens: tokens.map(({ id }) => id) };
}
