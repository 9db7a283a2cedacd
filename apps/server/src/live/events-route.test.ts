// The stream of events, from the server's routes over an engine that tells a story.
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { StoryEngine } from "../../test/story-engine.ts";
import { STORY, storyTokenizer } from "../../test/story-tokens.ts";
import { type AppOptions, createApp, type ServerApp } from "../app.ts";
import { livePage } from "../live-page.ts";
import type { EventsOptions } from "./events-route.ts";
import { LIVE_INTERVALS } from "./live-feed.ts";
import type { LiveMessages } from "./live-messages.ts";

setDefaultTimeout(60_000);

const FAST = { tokensMs: 5, statusMs: 10, heartbeatMs: 200, stepMs: 10, stuckMs: 300, silentMs: 30_000 };

type Event = {
  [Name in keyof LiveMessages]: { readonly name: Name; readonly message: LiveMessages[Name] };
}[keyof LiveMessages];

const opened: { app: ServerApp; engine: StoryEngine }[] = [];
afterEach(async () => {
  for (const { app, engine } of opened.splice(0)) {
    app.close();
    await engine.close();
  }
});

function open(events: Partial<EventsOptions> = {}, options: Partial<AppOptions> = {}) {
  const engine = new StoryEngine(5);
  const page = livePage({ texts: "all", intervals: FAST, ...events });
  const app = createApp({ engine, modelName: "story", tokenizer: storyTokenizer, page, ...options });
  opened.push({ app, engine });
  const get = (path: string, init?: RequestInit) => app.fetch(new Request(`http://127.0.0.1${path}`, init));
  const ask = (tokens: number) =>
    app.fetch(
      new Request("http://127.0.0.1/v1/completions", {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer secret" },
        body: JSON.stringify({ model: "story", prompt: "Tell me a story", max_tokens: tokens }),
      }),
    );
  return { engine, app, get, ask };
}

/** The events of a response, as they come. Leaving the loop is what a client does that goes. */
async function* eventsOf(response: Response): AsyncGenerator<Event, void, void> {
  if (response.body === null) throw new Error("a stream has a body");
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body) {
    const blocks = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(block) ?? [];
      if (name === undefined || data === undefined) throw new Error(`expected an event, but found ${block}`);
      yield { name, message: JSON.parse(data) } as Event;
    }
  }
}

/** The first event that is wanted. */
async function first(events: AsyncGenerator<Event, void, void>, isWanted: (event: Event) => boolean): Promise<Event> {
  for (;;) {
    const { value, done } = await events.next();
    if (done || value === undefined) throw new Error("the stream ended before the event that was wanted");
    if (isWanted(value)) return value;
  }
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await Bun.sleep(5);
}

test("a stream says hello, how the engine is, what is generated, and explains steps", async () => {
  const { get, ask } = open();
  const response = await get("/events");
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(response.headers.get("cache-control")).toBe("no-store");
  const events = eventsOf(response);
  expect((await events.next()).value).toEqual({
    name: "hello",
    message: { model: "story", maxContext: 2048, texts: "all" },
  });
  expect((await events.next()).value).toMatchObject({
    name: "status",
    message: { state: "ready", ranks: 4, running: 0 },
  });
  const answer = ask(20);
  let tokens: string[] = [];
  let ended: string | undefined;
  let steps = 0;
  let running = 0;
  for await (const { name, message } of events) {
    if (name === "status") running = Math.max(running, message.running);
    if (name === "step") {
      steps++;
      expect(message.texts[0]?.id).toMatch(/^req-.*\/0$/);
      expect(message.prompts).toEqual([[message.texts[0]?.id ?? "", 15]]);
    }
    if (name !== "tokens") continue;
    for (const text of message.texts) {
      tokens = [...tokens, ...(text.tokens ?? [])];
      ended ??= text.ended;
    }
    if (ended !== undefined) break;
  }
  expect(tokens).toEqual(STORY.slice(0, 20));
  expect([ended, running]).toEqual(["length", 1]);
  expect(steps).toBeGreaterThan(0);
  expect((await answer).status).toBe(200);
});

test("others' texts are not told where only one's own are: no event has a word of them", async () => {
  const { get, ask } = open({ texts: "own" });
  const events = eventsOf(await get("/events"));
  const answer = ask(15);
  const all: string[] = [];
  let tokens = 0;
  for await (const event of events) {
    all.push(JSON.stringify(event));
    if (event.name !== "tokens") continue;
    for (const text of event.message.texts) tokens += text.tokens?.length ?? 0;
    if (event.message.texts.some(({ ended }) => ended !== undefined)) break;
  }
  expect(tokens).toBe(15);
  expect(all[0]).toContain('"texts":"own"');
  expect(all.join()).not.toMatch(/beginning|heaven|earth/);
  expect(await (await answer).text()).toContain("In the beginning");
});

test("nothing runs while nobody watches: no steps are explained, nothing is subscribed to", async () => {
  const { app, engine, get, ask } = open();
  expect(app.activity.isWatched).toBe(false);
  const events = eventsOf(await get("/events"));
  await events.next();
  expect(app.activity.isWatched).toBe(true);
  const answer = ask(5);
  await first(events, ({ name }) => name === "step");
  await events.return();
  expect(app.activity.isWatched).toBe(false);
  await answer;
  await until(() => engine.explaining === 0);
  const { explained } = engine;
  await ask(10);
  expect(engine.explained).toBe(explained);
});

test("when no step ends, the flight record of every rank is told, until steps go on", async () => {
  const { engine, get, ask } = open();
  const events = eventsOf(await get("/events"));
  engine.hang();
  const answer = ask(3);
  const stuck = await first(events, ({ name }) => name === "flight");
  if (stuck.name !== "flight") throw new Error("expected a flight record");
  expect(stuck.message.stuckMs).toBeGreaterThanOrEqual(FAST.stuckMs);
  expect(stuck.message.groups[0]?.ranks.map(({ rank, behind }) => [rank, behind])).toEqual([
    [0, false],
    [1, false],
    [2, true],
    [3, false],
  ]);
  await first(events, ({ name }) => name === "flight");
  engine.goOn();
  await first(events, ({ name, message }) => name === "flight" && "stuckMs" in message && message.stuckMs === 0);
  expect((await answer).status).toBe(200);
});

test("states are told as they come, also while there is no flight record", async () => {
  const { engine, get } = open();
  const events = eventsOf(await get("/events"));
  for (const state of ["restarting", "ready", "failed"] as const) {
    engine.setState(state);
    await first(events, ({ name, message }) => name === "status" && "state" in message && message.state === state);
  }
});

test("a stream that has nothing to tell shows that it lives", async () => {
  const { get } = open();
  const events = eventsOf(await get("/events"));
  const beats = [];
  for await (const { name } of events) if (beats.push(name) === 5) break;
  expect(beats).toEqual(["hello", "status", "status", "status", "status"]);
});

test("a reader that takes nothing gets little, learns how much it missed, and holds nobody up", async () => {
  const { app, get, ask } = open();
  const slow = await get("/events");
  const quick = eventsOf(await get("/events"));
  const answer = ask(300);
  let seen = 0;
  for await (const { name } of quick) if (name === "tokens" && ++seen === 200) break;
  expect(app.activity.isWatched).toBe(true);
  let bytes = 0;
  const events = eventsOf(slow);
  for await (const event of events) {
    bytes += JSON.stringify(event).length;
    if (event.name !== "dropped") continue;
    expect(event.message.events).toBeGreaterThan(0);
    break;
  }
  expect(bytes).toBeLessThan(256 << 10);
  await answer;
});

test("a reader that takes nothing for too long is let go", async () => {
  const { app, get, ask } = open({ intervals: { ...FAST, silentMs: 100 } });
  const slow = await get("/events");
  const answer = ask(400);
  await until(() => !app.activity.isWatched);
  let last: Event | undefined;
  for await (const event of eventsOf(slow)) last = event;
  expect(last?.name).not.toBe("dropped");
  await answer;
});

test("so many may watch, and no more, until one goes", async () => {
  const { get } = open({ mostWatchers: 2 });
  const [one, two] = [eventsOf(await get("/events")), eventsOf(await get("/events"))];
  await one.next();
  await two.next();
  const refused = await get("/events");
  expect(refused.status).toBe(429);
  expect(refused.headers.get("retry-after")).toBe("5");
  expect(await refused.json()).toMatchObject({ error: { code: "too_many_watchers", type: "rate_limit_error" } });
  await one.return();
  expect((await get("/events")).status).toBe(200);
});

test("another website's page cannot take the places of those who watch", async () => {
  const { get } = open({ mostWatchers: 1 });
  const from = (site: string) => get("/events", { headers: { "sec-fetch-site": site } });
  const refused = await from("cross-site");
  expect(refused.status).toBe(403);
  expect(await refused.json()).toMatchObject({ error: { code: "cross_site" } });
  const own = await from("same-origin");
  expect(own.status).toBe(200);
  await own.body?.cancel();
});

test("HEAD is answered, and watches nothing", async () => {
  const { app, get } = open({ mostWatchers: 1 });
  for (let time = 0; time < 3; time++) expect((await get("/events", { method: "HEAD" })).status).toBe(200);
  expect(app.activity.isWatched).toBe(false);
});

test("where a token is wanted, events want it, and the page's files do not", async () => {
  const { get } = open({}, { token: "secret" });
  expect((await get("/events")).status).toBe(401);
  expect((await get("/events", { headers: { authorization: "Bearer other" } })).status).toBe(401);
  const response = await get("/events", { headers: { authorization: "Bearer secret" } });
  expect(response.status).toBe(200);
  await response.body?.cancel();
  expect((await get("/")).status).toBe(200);
  expect((await get("/page/main.js")).status).toBe(200);
});

test("streams end when the server does, and no more are opened", async () => {
  const { app, get } = open();
  const events = eventsOf(await get("/events"));
  await events.next();
  app.close();
  for await (const _ of events);
  expect(app.activity.isWatched).toBe(false);
  expect((await get("/events")).status).toBe(503);
});

test("steps are explained at most twice a second, and statuses told at most so often, unless told otherwise", () => {
  expect(LIVE_INTERVALS.stepMs).toBeGreaterThanOrEqual(500);
  expect(LIVE_INTERVALS.statusMs).toBeGreaterThanOrEqual(500);
  expect(LIVE_INTERVALS.tokensMs).toBeGreaterThanOrEqual(100);
});
