// The server over the demo's model: real ranks, real KV blocks.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Engine, type EngineOptions, openModel } from "@lockstep/language-model";
import { type AppOptions, createApp } from "../src/app.ts";
import { ModelTokenizer } from "../src/tokenize/model-tokenizer.ts";
import { chattingModel, DEMO_MODEL } from "./chatting-model.ts";
import { eventsOf } from "./scripted-app.ts";

setDefaultTimeout(120_000);

interface Served extends AsyncDisposable {
  readonly engine: Engine;
  post(body: object, init?: RequestInit, path?: string): Promise<Response>;
  get(path: string): Promise<Response>;
}

async function serve(options: Partial<EngineOptions>, more: Partial<AppOptions> = {}, folder = DEMO_MODEL) {
  const model = openModel(folder);
  const tokenizer = new ModelTokenizer(model);
  const engine = await Engine.open(model, { world: 2, backend: "wasm", maxContext: 256, ...options });
  const app = createApp({ engine, modelName: "demo", tokenizer, ...more });
  const ask = (path: string, init?: RequestInit): Promise<Response> =>
    app.fetch(new Request(`http://127.0.0.1${path}`, init));
  const served: Served = {
    engine,
    get: ask,
    post: (body, init, path = "/v1/completions") =>
      ask(path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "demo", ...body }),
        ...init,
      }),
    async [Symbol.asyncDispose]() {
      await engine.close();
      tokenizer[Symbol.dispose]();
    },
  };
  return served;
}

let served: Served;
beforeAll(async () => {
  served = await serve({});
});
afterAll(() => served[Symbol.asyncDispose]());

/** Resolves when no text holds blocks. */
async function untilFree(engine: Engine): Promise<void> {
  for (;;) {
    const { running, waiting, blocks } = engine.status();
    if (running + waiting + blocks.used === 0) return;
    await Bun.sleep(2);
  }
}

const textOf = async (response: Response): Promise<string> => {
  const body = await response.json();
  expect(body.error).toBeUndefined();
  return body.choices[0].text;
};

const PSALM = { prompt: "Psa23:1 The LORD is", max_tokens: 12, temperature: 0 };

test("the demo's model says what it knows by heart", async () => {
  expect(await textOf(await served.post(PSALM))).toBe(" my shepherd; I shall not want.\nPsa23:");
});

test("many at once have the texts that each has alone", async () => {
  const asks = Array.from({ length: 24 }, (_, index) => ({
    prompt: `${["John3:16", "Gen1:1 In the", "Psa23:1 The LORD is my"][index % 3]} ${"x".repeat(index)}`,
    max_tokens: 8 + (index % 9),
    temperature: index % 2,
    top_p: 0.9,
    seed: index,
  }));
  const together = await Promise.all(asks.map((ask) => served.post(ask).then(textOf)));
  await using other = await serve({ prefixCache: false });
  for (const [index, ask] of asks.entries())
    expect([index, await textOf(await other.post(ask))]).toEqual([index, together[index] ?? ""]);
});

test("prompts as texts and as token ids, and streams, are the same", async () => {
  const ids = openModel(DEMO_MODEL).tokenizer.encode(PSALM.prompt);
  const whole = await textOf(await served.post(PSALM));
  expect(await textOf(await served.post({ ...PSALM, prompt: ids }))).toBe(whole);
  const events = await eventsOf(await served.post({ ...PSALM, stream: true }));
  const parts = events.map((event) => JSON.parse(JSON.stringify(event)).choices[0].text);
  expect(parts.join("")).toBe(whole);
});

test("log-probabilities are those of the tokens of the text", async () => {
  const { choices } = await (await served.post({ ...PSALM, logprobs: 3 })).json();
  const [{ text, logprobs }] = choices;
  expect(logprobs.tokens.join("")).toBe(text);
  expect(logprobs.token_logprobs.every((value: number) => value <= 0 && value > -3)).toBe(true);
  for (const [at, top] of logprobs.top_logprobs.entries()) {
    expect(Object.keys(top).length).toBeGreaterThanOrEqual(3);
    expect(top[logprobs.tokens[at]]).toBe(logprobs.token_logprobs[at]);
    expect(Math.max(...Object.values<number>(top))).toBe(logprobs.token_logprobs[at]);
  }
});

test("who goes away frees the blocks, in a stream and before an answer", async () => {
  const long = { ...PSALM, max_tokens: 200, ignore_eos: true };
  const stream = await served.post({ ...long, stream: true });
  const reader = stream.body?.getReader();
  await reader?.read();
  expect(served.engine.status().running).toBe(1);
  await reader?.cancel();
  await untilFree(served.engine);
  const abort = new AbortController();
  const answer = served.post(long, { signal: abort.signal });
  while (served.engine.status().running === 0) await Bun.sleep(1);
  abort.abort();
  expect((await answer).status).toBe(400);
  await untilFree(served.engine);
});

test("a cache that is too small for all at once serves all, one giving way to another", async () => {
  await using small = await serve({ maxContext: 128, kvTokens: 128, maxRunning: 8 });
  const asks = Array.from({ length: 8 }, (_, index) => ({
    ...PSALM,
    prompt: `${PSALM.prompt} ${index}`,
    max_tokens: 60,
  }));
  const texts = await Promise.all(asks.map((ask) => small.post(ask).then(textOf)));
  for (const [index, ask] of asks.entries()) expect(await textOf(await served.post(ask))).toBe(texts[index] ?? "");
  await untilFree(small.engine);
  const { totals } = small.engine.status();
  expect([totals.finished, totals.failed, totals.refused]).toEqual([8, 0, 0]);
});

test("too many are refused, and told when to come again", async () => {
  await using busy = await serve({ maxRunning: 1, maxWaiting: 1 });
  const asks = Array.from({ length: 6 }, () => busy.post({ ...PSALM, max_tokens: 40 }));
  const answers = await Promise.all(asks);
  const refused = answers.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThan(0);
  expect(answers.length - refused.length).toBeGreaterThan(0);
  for (const one of refused) {
    expect(Number(one.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect((await one.json()).error).toMatchObject({ type: "rate_limit_error", code: "engine_busy" });
  }
  await untilFree(busy.engine);
});

test("a rank that dies fails those under way by its name, and the next are served", async () => {
  await using mortal = await serve({});
  const stream = await mortal.post({ ...PSALM, max_tokens: 200, ignore_eos: true, stream: true });
  const whole = mortal.post({ ...PSALM, max_tokens: 200, ignore_eos: true });
  const text = stream.text();
  while (mortal.engine.status().running < 2) await Bun.sleep(1);
  await mortal.engine.terminateRank(1);
  const failed = await whole;
  expect([failed.status, (await failed.json()).error.code]).toEqual([500, "ranks_failed"]);
  const last = (await text).trim().split("\n\n").at(-1) ?? "";
  const { error } = JSON.parse(last.replace("data: ", ""));
  expect(error).toMatchObject({ type: "server_error", code: "ranks_failed" });
  expect(error.message).toContain("rank 1");
  expect(await textOf(await mortal.post(PSALM))).toBe(" my shepherd; I shall not want.\nPsa23:");
  expect(await (await mortal.get("/metrics")).text()).toContain("lockstep_restarts_total 1");
});

test("a conversation goes through the model's template", async () => {
  using folder = chattingModel();
  await using chatting = await serve({}, {}, folder.path);
  const body = { messages: [{ role: "user", content: "Who?" }], max_tokens: 5, temperature: 0 };
  const response = await chatting.post(body, {}, "/v1/chat/completions");
  const { choices, usage } = await response.json();
  const prompt = openModel(DEMO_MODEL).tokenizer.encode("<user>Who?", { addSpecialTokens: false });
  expect(usage.prompt_tokens).toBe(prompt.length);
  expect(choices[0].message.content).toBe(await textOf(await served.post({ ...body, messages: undefined, prompt })));
});

test("the flight record tells of every rank", async () => {
  await served.post(PSALM);
  const record = await (await served.get("/debug/flight")).json();
  const world = record.groups.find(({ group }: { group: string }) => group === "world");
  expect(world.ranks.map(({ rank }: { rank: number }) => rank)).toEqual([0, 1]);
  expect(await (await served.get("/debug/flight?format=text&last=2")).text()).toContain('group "world"');
});

test("a rank that dies while nothing is asked of it shows in /health, until others are there", async () => {
  await using idle = await serve({});
  const told = async (): Promise<[number, string]> => {
    const response = await idle.get("/health");
    return [response.status, (await response.json()).state];
  };
  expect(await told()).toEqual([200, "ready"]);
  await idle.engine.terminateRank(1);
  const until = async (status: number, state: string): Promise<void> => {
    for (;;) {
      const [code, name] = await told();
      if (code === status && name === state) return;
      await Bun.sleep(2);
    }
  };
  await until(503, "restarting");
  await until(200, "ready");
  expect(idle.engine.status().totals).toMatchObject({ requests: 0, restarts: 1 });
});
