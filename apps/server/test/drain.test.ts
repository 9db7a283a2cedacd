// SIGTERM: what runs is finished, what comes is refused, and the process ends.
import { expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import { eventsOf, MODEL } from "./scripted-app.ts";
import { scriptedText } from "./scripted-engine.ts";
import { RUNTIMES, SCRIPTED, type ServerProcess, startServer } from "./server-process.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(60_000);

const start = (runtime: (typeof RUNTIMES)[number], script: object, options: object = {}): Promise<ServerProcess> =>
  startServer(runtime, SCRIPTED, [JSON.stringify(script), JSON.stringify(options)]);

function ask(url: string, body: object): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, prompt: "abc", ...body }),
  });
}

/** Resolves when a request is being computed. */
async function untilRunning(url: string, count = 1): Promise<void> {
  for (;;) {
    const { running } = await (await fetch(`${url}/health`)).json();
    if (running === count) return;
  }
}

test.each([...RUNTIMES])("%s: streams and others are finished, then it ends with 0", async (runtime) => {
  await using server = await start(runtime, { tokenMs: 20 });
  const stream = ask(server.url, { max_tokens: 40, stream: true });
  const whole = ask(server.url, { max_tokens: 30, seed: 1, temperature: 1 });
  await untilRunning(server.url, 2);
  server.kill("SIGTERM");
  await server.logged(({ event }) => event === "signal");
  const events = await eventsOf(await stream);
  const texts = events.map((event) => JSON.stringify(event).replace(/.*"text":"(.*?)".*/, "$1"));
  expect(texts.join("")).toBe(scriptedText("abc", 0, 40));
  expect((await (await whole).json()).choices).toMatchObject([{ text: scriptedText("abc", 1, 30) }]);
  expect(await server.exited).toBe(0);
  expect(server.log.at(-1)).toMatchObject({ event: "closed", outcome: "drained" });
});

test.each([...RUNTIMES])("%s: what comes meanwhile is refused", async (runtime) => {
  await using server = await start(runtime, { tokenMs: 50 });
  // A connection from before: new ones are not taken any more.
  const socket = connect(server.port, "127.0.0.1");
  const answers: string[] = [];
  socket.on("data", (data) => answers.push(data.toString()));
  socket.on("error", () => {});
  const until = async (text: string): Promise<void> => {
    while (!answers.join("").includes(text)) await Bun.sleep(5);
  };
  socket.write("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  await until('"state":"ready"');
  const running = ask(server.url, { max_tokens: 60 });
  await untilRunning(server.url);
  // The whole request but its end, so that the connection is at work when the server begins to end.
  const body = JSON.stringify({ model: MODEL, prompt: "x" });
  const head = `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n`;
  socket.write(`${head}Content-Length: ${body.length}\r\n`);
  server.kill("SIGTERM");
  await server.logged(({ event }) => event === "signal");
  socket.write(`\r\n${body}`);
  const refused = Promise.withResolvers<void>();
  socket.on("close", () => refused.resolve());
  await Promise.race([until("503"), refused.promise]);
  expect(answers.join("")).not.toContain("text_completion");
  socket.destroy();
  expect(await outcomeOf(fetch(`${server.url}/health`))).toThrow();
  expect((await running).status).toBe(200);
  expect(await server.exited).toBe(0);
});

test.each([...RUNTIMES])("%s: what takes too long is cut short, and it ends with 1", async (runtime) => {
  await using server = await start(runtime, {}, { drainSeconds: 1 });
  server.tell("hang");
  const failed = ask(server.url, { max_tokens: 5 }).then(
    (response) => response.status,
    () => "cut",
  );
  await untilRunning(server.url);
  server.kill("SIGTERM");
  expect(await server.exited).toBe(1);
  expect([503, "cut"]).toContain(await failed);
  expect(server.log.at(-1)).toMatchObject({ event: "closed", outcome: "late" });
});

test.each([...RUNTIMES])("%s: a second signal ends it at once", async (runtime) => {
  await using server = await start(runtime, {}, { drainSeconds: 10_000 });
  server.tell("hang");
  const failed = ask(server.url, { max_tokens: 5 }).catch(() => undefined);
  await untilRunning(server.url);
  server.kill("SIGTERM");
  await server.logged(({ event }) => event === "signal");
  server.kill("SIGTERM");
  expect(await server.exited).toBe(1);
  await failed;
  expect(server.log.at(-1)).toMatchObject({ event: "closed", outcome: "hurried" });
});
