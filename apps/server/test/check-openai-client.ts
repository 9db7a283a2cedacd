// A program for Bun and Deno: the official client against a scripted server at the address that is its argument.
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import process from "node:process";
import OpenAI from "openai";
import { MODEL } from "./scripted-app.ts";
import { scriptedText } from "./scripted-engine.ts";

const [baseURL = ""] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "a token", maxRetries: 0, timeout: 20_000 });
const messages = [
  { role: "system" as const, content: "Be brief." },
  { role: "user" as const, content: "Who made the light?" },
];
const chatPrompt = "<system>Be brief.<user>Who made the light?";

const models = await client.models.list();
deepEqual(
  models.data.map(({ id }) => id),
  [MODEL],
);
equal((await client.models.retrieve(MODEL)).id, MODEL);

// All at once.
const completion = await client.completions.create({ model: MODEL, prompt: "abc", max_tokens: 8, temperature: 0 });
equal(completion.choices[0]?.text, scriptedText("abc", 0, 8));
equal(completion.choices[0]?.finish_reason, "length");
equal(completion.usage?.total_tokens, 11);
const chat = await client.chat.completions.create({ model: MODEL, messages, max_completion_tokens: 8, seed: 3, n: 2 });
deepEqual(
  chat.choices.map(({ message }) => message.content),
  [3, 4].map((seed) => scriptedText(chatPrompt, seed, 8)),
);
equal(chat.usage?.prompt_tokens, chatPrompt.length);
equal(chat.usage?.prompt_tokens_details?.cached_tokens, Math.floor(chatPrompt.length / 2));
ok(chat._request_id?.startsWith("req-"));

// Streams.
let text = "";
for await (const part of await client.completions.create({
  model: MODEL,
  prompt: "abc",
  max_tokens: 9,
  stream: true,
})) {
  text += part.choices[0]?.text ?? "";
}
equal(text, scriptedText("abc", 0, 9));
const stream = client.chat.completions.stream({
  model: MODEL,
  messages,
  max_completion_tokens: 10,
  seed: 7,
  stream_options: { include_usage: true },
});
const whole = await stream.finalChatCompletion();
equal(whole.choices[0]?.message.content, scriptedText(chatPrompt, 7, 10));
equal(whole.choices[0]?.message.role, "assistant");
equal(whole.usage?.completion_tokens, 10);

// Log-probabilities.
const told = await client.chat.completions.create({
  model: MODEL,
  messages,
  max_completion_tokens: 2,
  logprobs: true,
  top_logprobs: 3,
});
const content = told.choices[0]?.logprobs?.content ?? [];
equal(content.map(({ token }) => token).join(""), told.choices[0]?.message.content);
deepEqual(
  content.map(({ top_logprobs: top }) => top.length),
  [3, 3],
);
deepEqual(content[0]?.bytes, [...new TextEncoder().encode(content[0]?.token)]);

// Errors are the client's own classes.
const bad = client.chat.completions.create({ model: MODEL, messages, temperature: 9 });
await rejects(bad, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
const tools = [{ type: "function" as const, function: { name: "look" } }];
const refused = client.chat.completions.create({ model: MODEL, messages, tools });
await rejects(refused, (error) => error instanceof OpenAI.BadRequestError && error.param === "tools");
const unknown = client.chat.completions.create({ model: "another", messages });
await rejects(unknown, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
const long = client.completions.create({ model: MODEL, prompt: "a".repeat(5000) });
await rejects(long, (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded");

// Leaving a stream gives the text up, by `break` and by abort.
const running = async (): Promise<number> => (await (await fetch(`${baseURL}/health`)).json()).running;
const endless = { model: MODEL, prompt: "abc", max_tokens: 500, stream: true } as const;
for await (const _ of await client.completions.create(endless)) break;
while ((await running()) > 0);
const abort = new AbortController();
const aborted = await client.completions.create(endless, { signal: abort.signal });
let parts = 0;
for await (const _ of aborted) if (++parts === 3) abort.abort();
equal(parts, 3);
while ((await running()) > 0);
const late = client.completions.create({ model: MODEL, prompt: "abc", max_tokens: 500 }, { timeout: 100 });
await rejects(late, OpenAI.APIConnectionTimeoutError);
while ((await running()) > 0);

console.log("the client was served");
