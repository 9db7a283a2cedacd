import { expect, test } from "bun:test";
import { eventsOf, MODEL, scriptedApp } from "./scripted-app.ts";
import { scriptedText, scriptedTokens } from "./scripted-engine.ts";

const PATH = "/v1/chat/completions";
const messages = [{ role: "user", content: "Who?" }];
const PROMPT = "<user>Who?";

test("an answer comes all at once, as long as the context has room unless it is said", async () => {
  const { post } = scriptedApp({ maxContext: 64 });
  const response = await post(PATH, { model: MODEL, messages, temperature: 0 });
  expect(response.status).toBe(200);
  const length = 64 - PROMPT.length;
  expect(await response.json()).toEqual({
    id: expect.stringMatching(/^chatcmpl-req-/),
    object: "chat.completion",
    created: expect.any(Number),
    model: MODEL,
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: scriptedText(PROMPT, 0, length), refusal: null },
        logprobs: null,
        finish_reason: "length",
      },
    ],
    usage: {
      prompt_tokens: PROMPT.length,
      completion_tokens: length,
      total_tokens: 64,
      prompt_tokens_details: { cached_tokens: PROMPT.length / 2 },
    },
  });
});

test("max_tokens and max_completion_tokens are one", async () => {
  const { post } = scriptedApp();
  for (const field of ["max_tokens", "max_completion_tokens"]) {
    const { usage } = await (await post(PATH, { model: MODEL, messages, [field]: 5 })).json();
    expect(usage.completion_tokens).toBe(5);
  }
  const both = await post(PATH, { model: MODEL, messages, max_tokens: 5, max_completion_tokens: 6 });
  expect([both.status, (await both.json()).error.param]).toEqual([400, "max_tokens"]);
});

test("a stream begins with the role and ends with why it ended", async () => {
  const { post } = scriptedApp();
  const body = { model: MODEL, messages, max_tokens: 3, stream: true, n: 2, seed: 4 };
  const events = await eventsOf(await post(PATH, body));
  const deltas = events.map((event) => JSON.stringify(event).replace(/.*"choices":\[(.*)\].*/, "$1"));
  const choices: { index: number; delta: { role?: string; content?: string }; finish_reason: string | null }[] =
    deltas.map((delta) => JSON.parse(delta));
  for (const index of [0, 1]) {
    const own = choices.filter((choice) => choice.index === index);
    expect(own[0]?.delta).toEqual({ role: "assistant", content: "" });
    expect(own.map(({ delta }) => delta.content).join("")).toBe(scriptedText(PROMPT, 4 + index, 3));
    expect(own.map((choice) => choice.finish_reason)).toEqual([null, null, null, "length"]);
  }
});

test("parts of a text are joined", async () => {
  const { post } = scriptedApp();
  const content = ["Wh", "o?"].map((text) => ({ type: "text", text }));
  const { choices } = await (await post(PATH, { model: MODEL, messages: [{ role: "user", content }] })).json();
  expect(choices[0].message.content.startsWith(scriptedText(PROMPT, 0, 20))).toBe(true);
});

test("log-probabilities have the bytes of each token", async () => {
  const { post } = scriptedApp();
  const body = { model: MODEL, messages, max_tokens: 2, logprobs: true, top_logprobs: 1 };
  const { choices } = await (await post(PATH, body)).json();
  const content = scriptedTokens(
    [...PROMPT].map((letter) => letter.charCodeAt(0)),
    0,
    2,
  ).map((id) => {
    const entry = { token: String.fromCharCode(id), logprob: -0.25, bytes: [id] };
    return { ...entry, top_logprobs: [entry] };
  });
  expect(choices[0].logprobs).toEqual({ content, refusal: null });
});

test("what the template refuses is told, and a model without one", async () => {
  const { post } = scriptedApp();
  const refused = await post(PATH, { model: MODEL, messages: [{ role: "nobody", content: "x" }] });
  expect(refused.status).toBe(400);
  expect((await refused.json()).error).toMatchObject({ param: "messages", code: "chat_template" });
  const without = await scriptedApp({ hasChat: false }).post(PATH, { model: MODEL, messages });
  expect(without.status).toBe(400);
  expect((await without.json()).error).toMatchObject({ param: "messages", code: "no_chat_template" });
});
