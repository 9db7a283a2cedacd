// Who may ask, and what the server tells about itself.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Activity, type ActivityEvent } from "../src/activity.ts";
import { MODEL, scriptedApp } from "./scripted-app.ts";
import { scriptedText } from "./scripted-engine.ts";
import { RUNTIMES, SCRIPTED, startServer } from "./server-process.ts";

setDefaultTimeout(60_000);

const PATH = "/v1/completions";
const text = { model: MODEL, prompt: "abc", max_tokens: 4 };

test("with a token, only those who have it are served, but for /health", async () => {
  const { get, post } = scriptedApp({}, { token: "right" });
  const status = async (authorization: string | undefined, path = "/v1/models"): Promise<number> =>
    (await get(path, authorization === undefined ? {} : { headers: { authorization } })).status;
  expect(await status("Bearer right")).toBe(200);
  expect(await status("bearer  right")).toBe(200);
  for (const wrong of [undefined, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer right2", "Basic right", "right"]) {
    for (const path of ["/v1/models", "/metrics", "/debug/flight", "/nowhere"])
      expect(await status(wrong, path)).toBe(401);
  }
  expect(await status(undefined, "/health")).toBe(200);
  const refused = await post(PATH, text);
  expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
  expect((await refused.json()).error).toMatchObject({ type: "authentication_error", code: "invalid_api_key" });
  expect((await post(PATH, text, { headers: { authorization: "Bearer right" } })).status).toBe(200);
});

test("on the loopback without a token, requests for other hosts are refused", async () => {
  const { app } = scriptedApp({}, { loopbackOnly: true });
  const status = async (host: string): Promise<number> =>
    (await app.fetch(new Request(`http://${host}/v1/models`))).status;
  for (const host of ["localhost", "127.0.0.1:8000", "127.9.9.9", "[::1]:80"]) expect(await status(host)).toBe(200);
  for (const host of ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"])
    expect(await status(host)).toBe(403);
});

test("health follows the engine", async () => {
  const { get, engine, app } = scriptedApp();
  const health = async (): Promise<unknown[]> => {
    const response = await get("/health");
    return [response.status, (await response.json()).state];
  };
  expect(await health()).toEqual([200, "ready"]);
  for (const state of ["restarting", "failed", "closed"] as const) {
    engine.setState(state);
    expect(await health()).toEqual([503, state]);
  }
  engine.setState("ready");
  await app.drain();
  expect(await health()).toEqual([503, "draining"]);
});

test("metrics count what was done, by route and status", async () => {
  const { get, post } = scriptedApp();
  await post(PATH, text);
  await post(PATH, { ...text, max_tokens: 0 });
  await get("/v1/models/another");
  await get(`/nowhere/${crypto.randomUUID()}`);
  const told = await (await get("/metrics")).text();
  for (const line of [
    'lockstep_http_requests_total{route="/v1/completions",method="POST",status="200"} 1',
    'lockstep_http_requests_total{route="/v1/completions",method="POST",status="400"} 1',
    'lockstep_http_requests_total{route="/v1/models/:id",method="GET",status="404"} 1',
    'lockstep_http_requests_total{route="other",method="GET",status="404"} 1',
    "lockstep_generated_tokens_total 4",
    "lockstep_prompt_tokens_total 3",
    "lockstep_time_to_first_token_seconds_count 1",
    "lockstep_inter_token_seconds_count 3",
    "lockstep_kv_blocks 256",
    'lockstep_kv_block_tokens{rank="0"} 16',
    'lockstep_state{state="ready"} 1',
    'lockstep_state{state="failed"} 0',
  ]) {
    expect(told).toContain(`${line}\n`);
  }
});

test("a request keeps its id, and none that cannot be one", async () => {
  const { get, logged } = scriptedApp();
  const id = async (given: string): Promise<string | null> =>
    (await get("/v1/models", { headers: { "x-request-id": given } })).headers.get("x-request-id");
  expect(await id("a-b.c:1")).toBe("a-b.c:1");
  for (const wrong of ["a b", 'a"', "x".repeat(101)]) expect(await id(wrong)).toStartWith("req-");
  expect(logged.map(({ request_id: one }) => one)[0]).toBe("a-b.c:1");
});

test("the log has no texts", async () => {
  const { post, logged } = scriptedApp();
  const secret = "nobody should read this";
  await post(PATH, { ...text, prompt: secret });
  await post(PATH, { ...text, prompt: secret, stop: 5 });
  await (await post(PATH, { ...text, prompt: secret, stream: true })).text();
  expect(logged.length).toBe(3);
  expect(JSON.stringify(logged)).not.toContain(secret);
  expect(JSON.stringify(logged)).not.toContain(scriptedText(secret, 0, 4));
  expect(logged[0]).toMatchObject({ status: 200, prompt_tokens: secret.length, completion_tokens: 4, path: PATH });
});

test("the flight record as JSON and as a table, not while there are no ranks", async () => {
  const { get, engine } = scriptedApp();
  expect(await (await get("/debug/flight")).json()).toEqual(JSON.parse(JSON.stringify(engine.flightRecord())));
  for (const [path, accept] of [
    ["?format=text", "*/*"],
    ["", "text/plain"],
  ] as const) {
    const response = await get(`/debug/flight${path}`, { headers: { accept } });
    expect(response.headers.get("content-type")).toStartWith("text/plain");
    expect(await response.text()).toContain("<- behind");
  }
  for (const wrong of ["?format=xml", "?last=0", "?last=x", "?last=257"]) {
    expect((await get(`/debug/flight${wrong}`)).status).toBe(400);
  }
  engine.setState("restarting");
  const response = await get("/debug/flight");
  expect([response.status, response.headers.get("retry-after")]).toEqual([503, "2"]);
});

test.each([...RUNTIMES])("%s: the flight record, health and metrics while a rank hangs", async (runtime) => {
  await using server = await startServer(runtime, SCRIPTED);
  server.tell("hang");
  const hung = fetch(`${server.url}${PATH}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(text),
  });
  for (;;) if ((await (await fetch(`${server.url}/health`)).json()).running === 1) break;
  expect(await (await fetch(`${server.url}/debug/flight?format=text`)).text()).toContain("waiting");
  expect(await (await fetch(`${server.url}/metrics`)).text()).toContain("lockstep_http_requests_in_flight 1\n");
  server.tell("go");
  expect((await (await hung).json()).choices[0].text).toBe(scriptedText("abc", 0, 4));
});

test("no more requests at once than may be", async () => {
  const { post, engine } = scriptedApp({}, { limits: { requests: 2 } });
  engine.hang();
  const two = [post(PATH, text), post(PATH, { ...text, stream: true })];
  while (engine.status().running < 1) await Bun.sleep(1);
  const third = await post(PATH, text);
  expect([third.status, third.headers.get("retry-after")]).toEqual([429, "2"]);
  engine.goOn();
  for (const answer of await Promise.all(two))
    expect([answer.status, (await answer.text()) !== ""]).toEqual([200, true]);
  expect((await post(PATH, text)).status).toBe(200);
});

test("whoever watches hears of each text, and disturbs nobody", async () => {
  const { app, post, engine } = scriptedApp({ tokenMs: 1 });
  const heard: ActivityEvent[] = [];
  app.activity.subscribe(() => {
    throw new Error("a watcher that fails");
  });
  const stop = app.activity.subscribe((event) => heard.push(event));
  await post(PATH, { ...text, n: 2, seed: 1 }, { headers: { "x-request-id": "one" } });
  const of = (id: string): ActivityEvent[] => heard.filter((event) => event.id === id);
  for (const choice of [0, 1]) {
    const events = of(`one/${choice}`);
    expect(events.map(({ kind }) => kind)).toEqual(["start", "tokens", "tokens", "tokens", "tokens", "end"]);
    const said = events.map((event) => (event.kind === "tokens" ? event.text : "")).join("");
    expect(said).toBe(scriptedText("abc", 1 + choice, 4));
    expect(events.at(-1)).toMatchObject({ reason: "length", usage: { completionTokens: 4 } });
  }
  const stream = await post(PATH, { ...text, max_tokens: 400, stream: true }, { headers: { "x-request-id": "two" } });
  const reader = stream.body?.getReader();
  await reader?.read();
  await reader?.cancel();
  expect(of("two/0").at(-1)).toMatchObject({ kind: "end", reason: "cancelled" });
  while (engine.status().running > 0) await Bun.sleep(1);
  const failing = post(PATH, { ...text, max_tokens: 400 }, { headers: { "x-request-id": "three" } });
  while (engine.status().running === 0) await Bun.sleep(1);
  engine.fail(1);
  expect((await failing).status).toBe(500);
  expect(of("three/0").at(-1)).toMatchObject({ kind: "end", reason: "failed" });
  stop();
  const before = heard.length;
  await post(PATH, text);
  expect(heard.length).toBe(before);
  expect(new Activity().isWatched).toBe(false);
});

test("a failure in the middle of a stream is its last event, and what is the server's own is told to the log alone", async () => {
  const { post, engine, logged } = scriptedApp({ tokenMs: 5 });
  const stream = await post(PATH, { ...text, max_tokens: 400, stream: true });
  const said = stream.text();
  while (engine.status().running === 0) await Bun.sleep(1);
  engine.fail(1);
  const blocks = (await said).trim().split("\n\n");
  expect(JSON.parse((blocks.at(-1) ?? "").replace("data: ", "")).error).toMatchObject({ code: "ranks_failed" });
  const broken = scriptedApp(
    {},
    {
      tokenizer: {
        longestToken: 1,
        encode: () => {
          throw new Error("a secret of the server's");
        },
        encodeChat: () => [],
        decode: () => "",
        textOf: () => "",
      },
    },
  );
  const answer = await broken.post(PATH, text);
  expect(answer.status).toBe(500);
  expect(await answer.text()).not.toContain("secret");
  expect(broken.logged.find(({ event }) => event === "failure")?.stack).toContain("a secret of the server's");
  expect(logged.at(-1)).toMatchObject({ event: "request", status: 200, error: "ranks_failed" });
});
