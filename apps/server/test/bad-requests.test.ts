import { expect, setDefaultTimeout, test } from "bun:test";
import { RandomStream } from "../../../tests/random.ts";
import { badRequest } from "./bad-requests.ts";
import { MODEL, scriptedApp } from "./scripted-app.ts";
import { scriptedText } from "./scripted-engine.ts";
import { RUNTIMES, SCRIPTED, startServer } from "./server-process.ts";

setDefaultTimeout(120_000);

/** What is wrong with an answer to what was to be refused; undefined: nothing. */
async function problemOf(response: Response): Promise<string | undefined> {
  const text = await response.text();
  if (response.status < 400 || response.status > 499) return `${response.status} ${text.slice(0, 200)}`;
  let body: { error?: Record<string, unknown> };
  try {
    body = JSON.parse(text);
  } catch {
    return `${response.status}, but no JSON: ${text.slice(0, 200)}`;
  }
  const { message, type, param, code, ...more } = body.error ?? {};
  const isText = (value: unknown): boolean => typeof value === "string" && value !== "";
  const isRight =
    isText(message) &&
    isText(type) &&
    (param === null || isText(param)) &&
    isText(code) &&
    Object.keys(more).length === 0;
  if (!isRight) return `${response.status}, but ${text.slice(0, 200)}`;
  if (response.headers.get("x-request-id") === null) return "no x-request-id";
  return undefined;
}

test("10,000 bad requests are refused in OpenAI's form, and none reaches the engine", async () => {
  const { app, engine, post, logged } = scriptedApp();
  const stream = new RandomStream(15);
  const random = (): number => stream.next();
  const problems: string[] = [];
  for (let count = 0; count < 10_000; count++) {
    const { what, path, method, headers, body } = badRequest(random);
    const init = { method, headers, ...(body === undefined ? {} : { body }) };
    const problem = await problemOf(await app.fetch(new Request(`http://127.0.0.1${path}`, init)));
    if (problem !== undefined) problems.push(`${method} ${path}, ${what}: ${problem}`);
  }
  expect(problems).toEqual([]);
  expect(engine.status().totals.requests).toBe(0);
  expect(logged.filter(({ event }) => event === "request").length).toBe(10_000);
  expect(logged.filter(({ event }) => event === "failure")).toEqual([]);
  const { choices } = await (await post("/v1/completions", { model: MODEL, prompt: "abc", max_tokens: 4 })).json();
  expect(choices[0].text).toBe(scriptedText("abc", 0, 4));
});

test.each([...RUNTIMES])("over the network in %s, while somebody is served", async (runtime) => {
  await using server = await startServer(runtime, SCRIPTED, [JSON.stringify({ tokenMs: 5 })]);
  const served = fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, prompt: "abc", max_tokens: 200 }),
  });
  const stream = new RandomStream(16);
  const random = (): number => stream.next();
  const problems: string[] = [];
  const ask = async (): Promise<void> => {
    const { what, path, method, headers, body } = badRequest(random);
    const init = { method, headers, ...(body === undefined ? {} : { body }) };
    const problem = await fetch(`${server.url}${path}`, init).then(problemOf, String);
    if (problem !== undefined) problems.push(`${method} ${path}, ${what}: ${problem}`);
  };
  for (let round = 0; round < 50; round++) await Promise.all(Array.from({ length: 10 }, ask));
  expect(problems).toEqual([]);
  expect((await (await served).json()).choices[0].text).toBe(scriptedText("abc", 0, 200));
});
