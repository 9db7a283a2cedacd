import { expect, test } from "bun:test";
import { eventsOf, MODEL, scriptedApp } from "./scripted-app.ts";
import { scriptedText, scriptedTokens } from "./scripted-engine.ts";

const PATH = "/v1/completions";

test("a text comes all at once, with what it took", async () => {
  const { post } = scriptedApp();
  const response = await post(PATH, { model: MODEL, prompt: "In the beginning", max_tokens: 12 });
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({
    id: expect.stringMatching(/^cmpl-req-/),
    object: "text_completion",
    created: expect.any(Number),
    model: MODEL,
    choices: [{ index: 0, text: scriptedText("In the beginning", 0, 12), logprobs: null, finish_reason: "length" }],
    usage: {
      prompt_tokens: 16,
      completion_tokens: 12,
      total_tokens: 28,
      prompt_tokens_details: { cached_tokens: 8 },
    },
  });
});

test("a stream says the same in parts, and what it took when asked to", async () => {
  const { post } = scriptedApp();
  const body = { model: MODEL, prompt: "abc", max_tokens: 9, stream: true, stream_options: { include_usage: true } };
  const response = await post(PATH, body);
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const events = await eventsOf(response);
  const texts = events.flatMap((event) => (hasChoices(event) ? event.choices.map(({ text }) => text) : []));
  expect(texts.join("")).toBe(scriptedText("abc", 0, 9));
  expect(events.slice(0, -1)).toEqual(events.slice(0, -1).map(() => expect.objectContaining({ usage: null })));
  expect(events.at(-2)).toMatchObject({ choices: [{ finish_reason: "length" }] });
  expect(events.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 9 } });
});

test("several prompts, several choices each: seeds go up by choice, prompts count once", async () => {
  const { post } = scriptedApp();
  const body = { model: MODEL, prompt: ["abc", "xy"], n: 3, seed: 5, max_tokens: 6 };
  const { choices, usage } = await (await post(PATH, body)).json();
  expect(choices.map(({ text }: { text: string }) => text)).toEqual(
    ["abc", "xy"].flatMap((prompt) => [5, 6, 7].map((seed) => scriptedText(prompt, seed, 6))),
  );
  expect(choices.map(({ index }: { index: number }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 36 });
});

test("a prompt of token ids, and a list of such", async () => {
  const { post } = scriptedApp();
  const one = await (await post(PATH, { model: MODEL, prompt: [97, 98, 99], max_tokens: 4 })).json();
  expect(one.choices).toMatchObject([{ text: scriptedText("abc", 0, 4) }]);
  const two = await (await post(PATH, { model: MODEL, prompt: [[97, 98, 99], [120]], max_tokens: 4 })).json();
  expect(two.choices).toMatchObject([{ text: scriptedText("abc", 0, 4) }, { text: scriptedText("x", 0, 4) }]);
});

test("a stop text ends it", async () => {
  const { post } = scriptedApp();
  const whole = scriptedText("abc", 0, 40);
  const stop = whole[20] ?? "";
  const { choices, usage } = await (await post(PATH, { model: MODEL, prompt: "abc", max_tokens: 40, stop })).json();
  const at = whole.indexOf(stop);
  expect(choices).toMatchObject([{ text: whole.slice(0, at), finish_reason: "stop" }]);
  expect(usage.completion_tokens).toBe(at + 1);
});

test("log-probabilities of each token, alike in a stream", async () => {
  const { post } = scriptedApp();
  const body = { model: MODEL, prompt: "abc", max_tokens: 3, logprobs: 2 };
  const { choices } = await (await post(PATH, body)).json();
  const ids = scriptedTokens([97, 98, 99], 0, 3);
  const texts = ids.map((id) => String.fromCharCode(id));
  const top = ids.map((id) => ({ [String.fromCharCode(id)]: -0.25, [String.fromCharCode(id + 1)]: -1.25 }));
  const logprobs = {
    tokens: texts,
    token_logprobs: [-0.25, -0.25, -0.25],
    top_logprobs: top,
    text_offset: [0, 1, 2],
  };
  expect(choices).toMatchObject([{ logprobs }]);
  const events = await eventsOf(await post(PATH, { ...body, stream: true }));
  expect(events).toMatchObject(
    texts.map((text, at) => ({
      choices: [{ logprobs: { tokens: [text], token_logprobs: [-0.25], top_logprobs: [top[at]], text_offset: [at] } }],
    })),
  );
});

function hasChoices(event: unknown): event is { choices: { text: string }[] } {
  return typeof event === "object" && event !== null && "choices" in event && Array.isArray(event.choices);
}
