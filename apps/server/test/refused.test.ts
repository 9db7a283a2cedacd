// What is refused, with which status, naming what is wrong.
import { expect, test } from "bun:test";
import { MODEL, scriptedApp } from "./scripted-app.ts";

const COMPLETIONS = "/v1/completions";
const CHAT = "/v1/chat/completions";
const text = { model: MODEL, prompt: "abc" };
const chat = { model: MODEL, messages: [{ role: "user", content: "x" }] };
const user = (content: unknown, more: object = {}): object => ({
  model: MODEL,
  messages: [{ role: "user", content, ...more }],
});

const FIELDS: readonly (readonly [path: string, body: unknown, param: string])[] = [
  [COMPLETIONS, { prompt: "x" }, "model"],
  [COMPLETIONS, { model: MODEL }, "prompt"],
  [COMPLETIONS, { model: 5, prompt: "x" }, "model"],
  [COMPLETIONS, { ...text, prompt: "" }, "prompt"],
  [COMPLETIONS, { ...text, prompt: [] }, "prompt"],
  [COMPLETIONS, { ...text, prompt: [""] }, "prompt[0]"],
  [COMPLETIONS, { ...text, prompt: [[]] }, "prompt[0]"],
  [COMPLETIONS, { ...text, prompt: [1.5] }, "prompt[0]"],
  [COMPLETIONS, { ...text, prompt: [-1] }, "prompt[0]"],
  [COMPLETIONS, { ...text, prompt: [1e9] }, "prompt"],
  [COMPLETIONS, { ...text, prompt: { text: "x" } }, "prompt"],
  [COMPLETIONS, { ...text, prompt: "\ud800" }, "prompt"],
  [COMPLETIONS, { ...text, max_tokens: 0 }, "max_tokens"],
  [COMPLETIONS, { ...text, max_tokens: 1e9 }, "max_tokens"],
  [COMPLETIONS, { ...text, max_tokens: 1.5 }, "max_tokens"],
  [COMPLETIONS, { ...text, temperature: -0.1 }, "temperature"],
  [COMPLETIONS, { ...text, temperature: 2.1 }, "temperature"],
  [COMPLETIONS, { ...text, temperature: "1" }, "temperature"],
  [COMPLETIONS, { ...text, top_p: 0 }, "top_p"],
  [COMPLETIONS, { ...text, top_p: 1.1 }, "top_p"],
  [COMPLETIONS, { ...text, top_k: -2 }, "top_k"],
  [COMPLETIONS, { ...text, min_p: 2 }, "min_p"],
  [COMPLETIONS, { ...text, seed: -1 }, "seed"],
  [COMPLETIONS, { ...text, seed: 2 ** 53 }, "seed"],
  [COMPLETIONS, { ...text, n: 0 }, "n"],
  [COMPLETIONS, { ...text, n: 33 }, "n"],
  [COMPLETIONS, { ...text, n: 20, prompt: ["a", "b"] }, "n"],
  [COMPLETIONS, { ...text, prompt: Array.from({ length: 33 }, () => "x") }, "prompt"],
  [COMPLETIONS, { ...text, stop: "" }, "stop"],
  [COMPLETIONS, { ...text, stop: ["ok", ""] }, "stop[1]"],
  [COMPLETIONS, { ...text, stop: "x".repeat(257) }, "stop"],
  [COMPLETIONS, { ...text, stop: Array.from({ length: 17 }, () => "x") }, "stop"],
  [COMPLETIONS, { ...text, stream: "yes" }, "stream"],
  [COMPLETIONS, { ...text, stream_options: { include_usage: true } }, "stream_options"],
  [COMPLETIONS, { ...text, stream: true, stream_options: { usage: 1 } }, "stream_options.usage"],
  [COMPLETIONS, { ...text, logprobs: 21 }, "logprobs"],
  [COMPLETIONS, { ...text, logprobs: true }, "logprobs"],
  [COMPLETIONS, { ...text, echo: true }, "echo"],
  [COMPLETIONS, { ...text, suffix: "end" }, "suffix"],
  [COMPLETIONS, { ...text, best_of: 2 }, "best_of"],
  [COMPLETIONS, { ...text, logit_bias: { 5: 1 } }, "logit_bias"],
  [COMPLETIONS, { ...text, frequency_penalty: 0.5 }, "frequency_penalty"],
  [COMPLETIONS, { ...text, presence_penalty: 0.5 }, "presence_penalty"],
  [COMPLETIONS, { ...text, repetition_penalty: 1.1 }, "repetition_penalty"],
  [COMPLETIONS, { ...text, messages: [] }, "messages"],
  [CHAT, { ...chat, prompt: "x" }, "prompt"],
  [CHAT, { model: MODEL }, "messages"],
  [CHAT, { ...chat, messages: [] }, "messages"],
  [CHAT, { ...chat, messages: ["x"] }, "messages[0]"],
  [CHAT, { ...chat, messages: [{ content: "x" }] }, "messages[0].role"],
  [CHAT, { ...chat, messages: [{ role: "", content: "x" }] }, "messages[0].role"],
  [CHAT, { ...chat, messages: [{ role: "user" }] }, "messages[0].content"],
  [CHAT, user(5), "messages[0].content"],
  [CHAT, user("\udc00"), "messages[0].content"],
  [CHAT, user([]), "messages[0].content"],
  [CHAT, user([{ type: "image_url", image_url: { url: "x" } }]), "messages[0].content[0].type"],
  [CHAT, user("x", { name: "me" }), "messages[0].name"],
  [CHAT, user("x", { tool_calls: [] }), "messages[0].tool_calls"],
  [CHAT, { ...chat, tools: [{ type: "function" }] }, "tools"],
  [CHAT, { ...chat, tool_choice: "required" }, "tool_choice"],
  [CHAT, { ...chat, response_format: { type: "json_object" } }, "response_format"],
  [CHAT, { ...chat, modalities: ["text", "audio"] }, "modalities"],
  [CHAT, { ...chat, store: true }, "store"],
  [CHAT, { ...chat, top_logprobs: 2 }, "top_logprobs"],
  [CHAT, { ...chat, logprobs: true, top_logprobs: 21 }, "top_logprobs"],
  [CHAT, { ...chat, logprobs: 2 }, "logprobs"],
];

test.each(FIELDS.map(([path, body, param]) => [param, path, body] as const))(
  "%s is named: %s %j",
  async (param, path, body) => {
    const { post } = scriptedApp();
    const response = await post(path, body);
    const { error } = await response.json();
    expect([response.status, error.param, error.type]).toEqual([400, param, "invalid_request_error"]);
    expect(error.message).toContain(`'${param}'`);
    expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
  },
);

test("OpenAI's fields that change nothing are taken", async () => {
  const { post } = scriptedApp();
  const nothing = {
    user: "me",
    metadata: { a: "b" },
    store: false,
    service_tier: "auto",
    safety_identifier: "x",
    prompt_cache_key: "y",
    logit_bias: {},
    frequency_penalty: 0,
    presence_penalty: 0,
    stop: null,
    seed: null,
    temperature: null,
    n: null,
    stream: null,
  };
  expect((await post(COMPLETIONS, { ...text, ...nothing, echo: false, suffix: null, best_of: null })).status).toBe(200);
  const more = {
    tools: [],
    tool_choice: "auto",
    parallel_tool_calls: true,
    response_format: { type: "text" },
    modalities: ["text"],
    audio: null,
  };
  expect((await post(CHAT, { ...chat, ...nothing, ...more })).status).toBe(200);
});

const json = { "content-type": "application/json" };
const BODIES: readonly (readonly [
  name: string,
  body: string | Uint8Array<ArrayBuffer>,
  status: number,
  code: string,
])[] = [
  ["nothing", "", 400, "invalid_json"],
  ["no JSON", "{", 400, "invalid_json"],
  ["no object", "5", 400, "invalid_type"],
  ["a list", "[]", 400, "invalid_type"],
  ["null", "null", 400, "invalid_type"],
  ["bytes that are no UTF-8", Uint8Array.of(0x22, 0xff, 0x22), 400, "invalid_utf8"],
  ["half a character of UTF-8", Uint8Array.of(0x22, 0xe2, 0x82), 400, "invalid_utf8"],
  ["lists within one another", "[".repeat(100_000), 400, "json_too_deep"],
  ["objects within one another", '{"a":'.repeat(1000), 400, "json_too_deep"],
  ["many fields", `{${Array.from({ length: 20_000 }, (_, at) => `"${at}":1`)}}`, 400, "json_too_many_fields"],
  ["too much", "x".repeat((4 << 20) + 1), 413, "body_too_large"],
];

test.each([...BODIES])("a body that is %s", async (_, body, status, code) => {
  const { app } = scriptedApp();
  const request = new Request(`http://127.0.0.1${COMPLETIONS}`, { method: "POST", headers: json, body });
  const response = await app.fetch(request);
  expect([response.status, (await response.json()).error.code]).toEqual([status, code]);
});

/** Lists of as many wrong elements as a body holds. */
const many = (element: unknown): unknown[] => Array.from({ length: 500_000 }, () => element);

test.each<readonly [path: string, body: object, param: string]>([
  [COMPLETIONS, { ...text, prompt: many([]) }, "prompt"],
  [COMPLETIONS, { ...text, prompt: [...many(1), -1] }, "prompt"],
  [COMPLETIONS, { ...text, stop: many(5) }, "stop"],
  [CHAT, { ...chat, messages: many(5) }, "messages"],
  [CHAT, user(many(5)), "messages[0].content"],
])("many wrong elements are not looked at one by one: %s", async (path, body, param) => {
  const { post } = scriptedApp();
  const response = await post(path, body);
  const { error } = await response.json();
  expect([response.status, error.param]).toEqual([400, param]);
  expect(error.message).toContain("Too big");
});

test("errors tell no more of a name than its beginning", async () => {
  const { post } = scriptedApp();
  const name = "x".repeat(100_000);
  for (const [path, body] of [
    [COMPLETIONS, { ...text, [name]: 1 }],
    [COMPLETIONS, { ...text, model: name }],
    [CHAT, user("x", { [name]: 1 })],
  ] as const) {
    const response = await post(path, body);
    expect([response.status >= 400, (await response.text()).length < 1000]).toEqual([true, true]);
  }
});

test("brackets in texts are no depth", async () => {
  const { post } = scriptedApp();
  expect((await post(COMPLETIONS, { ...text, prompt: `\\"${"[{".repeat(50)}` })).status).toBe(200);
});

test("a body without a length is counted as it comes", async () => {
  const { app } = scriptedApp({}, { limits: { bodyBytes: 1000 } });
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 100;
      controller.enqueue(new Uint8Array(100).fill(32));
    },
  });
  const response = await app.fetch(new Request(`http://x${COMPLETIONS}`, { method: "POST", headers: json, body }));
  expect(response.status).toBe(413);
  expect(sent).toBeLessThan(2000);
});

test("a body that does not come is waited for only so long", async () => {
  const { app, engine } = scriptedApp({}, { limits: { bodyMs: 20 } });
  let isCancelled = false;
  const body = new ReadableStream<Uint8Array>({
    cancel() {
      isCancelled = true;
    },
  });
  const response = await app.fetch(new Request(`http://x${COMPLETIONS}`, { method: "POST", headers: json, body }));
  expect([response.status, (await response.json()).error.code]).toEqual([408, "body_timeout"]);
  expect([isCancelled, engine.status().totals.requests]).toEqual([true, 0]);
});

test("types and encodings other than plain JSON", async () => {
  const { post } = scriptedApp();
  const status = async (headers: Record<string, string>): Promise<number> =>
    (await post(COMPLETIONS, text, { headers })).status;
  expect(await status({ "content-type": "text/plain" })).toBe(415);
  expect(await status({ "content-type": "application/x-www-form-urlencoded" })).toBe(415);
  expect(await status({ ...json, "content-encoding": "gzip" })).toBe(415);
  expect(await status({ "content-type": "Application/JSON; charset=utf-8" })).toBe(200);
});

test("unknown paths, models and methods", async () => {
  const { get, post } = scriptedApp();
  const said = async (response: Response): Promise<unknown[]> => {
    const { error } = await response.json();
    return [response.status, error.type, error.code];
  };
  expect(await said(await get("/v1/engines"))).toEqual([404, "not_found_error", "not_found"]);
  expect(await said(await get("/v1/models/another"))).toEqual([404, "not_found_error", "model_not_found"]);
  expect(await said(await get("/v1/models/%ff"))).toEqual([404, "not_found_error", "model_not_found"]);
  expect(await said(await post(COMPLETIONS, { ...text, model: "x" }))).toEqual([
    404,
    "not_found_error",
    "model_not_found",
  ]);
  const wrong = await get(COMPLETIONS);
  expect(wrong.headers.get("allow")).toBe("POST");
  expect(await said(wrong)).toEqual([405, "invalid_request_error", "method_not_allowed"]);
  expect((await get("/health", { method: "DELETE" })).headers.get("allow")).toBe("GET, HEAD");
});

test("prompts that do not fit are refused by their length before they are tokenised", async () => {
  let tokenised = 0;
  const tokenizer = {
    longestToken: 2,
    encode: (prompt: string) => {
      tokenised++;
      return Array.from(prompt, () => 1);
    },
    encodeChat: () => {
      tokenised++;
      return Array.from({ length: 64 }, () => 1);
    },
    decode: () => "",
    textOf: () => "x",
  };
  const { post } = scriptedApp({ maxContext: 64 }, { tokenizer });
  const code = async (path: string, body: object): Promise<unknown[]> => {
    const response = await post(path, body);
    return [response.status, (await response.json()).error.code, tokenised];
  };
  const refused = [400, "context_length_exceeded"];
  expect(await code(COMPLETIONS, { ...text, prompt: "x".repeat(129) })).toEqual([...refused, 0]);
  expect(await code(CHAT, user("x".repeat(129)))).toEqual([...refused, 0]);
  expect(await code(COMPLETIONS, { ...text, prompt: "x".repeat(64) })).toEqual([...refused, 1]);
  expect(await code(CHAT, user("x"))).toEqual([...refused, 2]);
  expect(await code(COMPLETIONS, { ...text, prompt: "x".repeat(60), max_tokens: 5 })).toEqual([...refused, 3]);
});

test.each([COMPLETIONS, CHAT])("%s: a client that goes away while its prompt is tokenised ends that", async (path) => {
  const begun = Promise.withResolvers<void>();
  let signal: AbortSignal | undefined;
  const never = (given?: AbortSignal): Promise<readonly number[]> => {
    signal = given;
    begun.resolve();
    return new Promise((_, reject) => given?.addEventListener("abort", () => reject(given.reason)));
  };
  const tokenizer = {
    longestToken: 1,
    encode: (_: string, given?: AbortSignal) => never(given),
    encodeChat: (_: unknown, given?: AbortSignal) => never(given),
    decode: () => "",
    textOf: () => "",
  };
  const { post, engine, logged } = scriptedApp({}, { tokenizer });
  const client = new AbortController();
  const answer = post(path, path === CHAT ? user("abc") : { ...text, prompt: "abc" }, { signal: client.signal });
  await begun.promise;
  client.abort();
  await answer;
  expect(signal?.aborted).toBe(true);
  expect(logged.at(-1)).toMatchObject({ event: "request", error: "client_gone" });
  expect(engine.status().totals.requests).toBe(0);
});
