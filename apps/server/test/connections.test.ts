// Clients that go away, send half of what they said, or do not read: their places come back, and nobody else notices.
import { expect, setDefaultTimeout, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { MODEL } from "./scripted-app.ts";
import { scriptedText, scriptedTokens } from "./scripted-engine.ts";
import { RUNTIMES, SCRIPTED, type ServerProcess, startServer } from "./server-process.ts";

setDefaultTimeout(60_000);

/** A connection of bytes as they are. */
interface Raw extends Disposable {
  readonly socket: Socket;
  /** What has come so far. */
  readonly text: () => string;
  /** Resolves when so much has come that it holds `part`. */
  until(part: string): Promise<void>;
  readonly closed: Promise<void>;
}

function open(server: ServerProcess, sent: string): Raw {
  const socket = connect(server.port, "127.0.0.1");
  const got: string[] = [];
  const closed = Promise.withResolvers<void>();
  socket.on("data", (data) => got.push(data.toString()));
  socket.on("error", () => {});
  socket.on("close", () => closed.resolve());
  socket.write(sent);
  const text = (): string => got.join("");
  return {
    socket,
    text,
    closed: closed.promise,
    async until(part) {
      while (!text().includes(part)) {
        const next = new Promise<void>((resolve) => socket.once("data", () => resolve()));
        if ((await Promise.race([next, closed.promise.then(() => "closed")])) === "closed" && !text().includes(part)) {
          throw new Error(`expected ${part}, but the connection was closed after ${text()}`);
        }
      }
    },
    [Symbol.dispose]: () => socket.destroy(),
  };
}

function request(body: object, length?: number): string {
  const text = JSON.stringify({ model: MODEL, prompt: "abc", ...body });
  const head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
  return `${head}Content-Length: ${length ?? text.length}\r\n\r\n${text}`;
}

interface Health {
  readonly running: number;
  readonly waiting: number;
  readonly kv_blocks: { readonly used: number };
}

/** Resolves when the engine is as it should be. */
async function until(server: ServerProcess, isIt: (health: Health) => boolean): Promise<void> {
  while (!isIt(await (await fetch(`${server.url}/health`)).json())) await Bun.sleep(5);
}

const isEmpty = ({ running, waiting, kv_blocks }: Health): boolean => running + waiting + kv_blocks.used === 0;

/** A request that is served as ever. */
async function expectServed(server: ServerProcess): Promise<void> {
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ model: MODEL, prompt: "abc", max_tokens: 5 });
  const response = await fetch(`${server.url}/v1/completions`, { method: "POST", headers, body });
  expect((await response.json()).choices[0].text).toBe(scriptedText("abc", 0, 5));
}

const start = (runtime: (typeof RUNTIMES)[number], script: object, options: object = {}): Promise<ServerProcess> =>
  startServer(runtime, SCRIPTED, [JSON.stringify(script), JSON.stringify(options)]);

test.each([...RUNTIMES])("%s: who goes away in the middle of a stream, or waits, frees the place", async (runtime) => {
  await using server = await start(runtime, { tokenMs: 10, maxRunning: 2, maxContext: 100_000 });
  for (const stream of [true, false]) {
    const clients = Array.from({ length: 5 }, () => open(server, request({ stream, max_tokens: 90_000 })));
    await until(server, ({ running, waiting }) => running === 2 && waiting === 3);
    if (stream) await clients[0]?.until("data: ");
    for (const { socket } of clients) socket.destroy();
    await until(server, isEmpty);
  }
  await expectServed(server);
});

test.each([...RUNTIMES])("%s: a connection that says half of it, and one that leaves then", async (runtime) => {
  await using server = await start(runtime, {}, { limits: { bodyMs: 300 } });
  const half = ["", "POST /v1/comp", "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-"];
  const waiting = half.map((text) => open(server, text));
  using slow = open(server, request({}, 1000));
  using cut = open(server, request({}, 1000));
  cut.socket.end();
  using left = open(server, request({}, 1000));
  left.socket.destroy();
  await expectServed(server);
  await slow.until("body_timeout");
  expect(slow.text()).toStartWith("HTTP/1.1 408");
  await until(server, isEmpty);
  for (const one of waiting) one.socket.destroy();
  await expectServed(server);
  expect(server.log.filter(({ event }) => event === "failure")).toEqual([]);
});

test("bun: a connection that does not say its request is closed", async () => {
  await using server = await start("bun", {}, { idleSeconds: 1 });
  const half = ["", "GET /hea", "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A"];
  const opened = half.map((text) => open(server, text));
  using answered = open(server, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  await answered.until("ready");
  await Promise.all([...opened, answered].map(({ closed }) => closed));
});

test.each([...RUNTIMES])("%s: bytes that are no HTTP", async (runtime) => {
  await using server = await start(runtime, {});
  for (const text of ["\0\0\0\0\r\n\r\n", "HELO\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "é".repeat(9000)]) {
    using bad = open(server, text);
    bad.socket.end();
    await bad.closed;
    expect(bad.text()).not.toContain("200 OK");
  }
  await expectServed(server);
});

test.each([...RUNTIMES])("%s: requests whose host is none, or not told", async (runtime) => {
  await using server = await start(runtime, {});
  for (const host of ["", "[", "a b", "%zz", "127.0.0.1:99999", "127.0.0.1/x?"]) {
    using bad = open(server, `GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    await bad.closed;
    // Deno takes some of them for its own address.
    expect(bad.text()).toMatch(/^HTTP\/1\.1 [24]\d\d /);
    if (runtime === "bun") expect(bad.text()).toContain("invalid_host");
  }
  using old = open(server, "GET /v1/models HTTP/1.0\r\n\r\n");
  await old.closed;
  expect(old.text()).toMatch(/^HTTP\/1\.\d [24]\d\d /);
  await expectServed(server);
  expect(server.log.filter(({ event }) => event === "failure")).toEqual([]);
});

test.each([...RUNTIMES])("%s: a body longer than it may be is refused before it is sent", async (runtime) => {
  await using server = await start(runtime, {}, { limits: { bodyBytes: 100_000 } });
  using long = open(server, request({}, 1e9));
  await long.until("body_too_large");
  expect(long.text()).toStartWith("HTTP/1.1 413");
  const chunk = `${(65536).toString(16)}\r\n${" ".repeat(65536)}\r\n`;
  const head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
  using chunked = open(server, `${head}Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(3)}`);
  await chunked.until("body_too_large");
  expect(chunked.text()).toStartWith("HTTP/1.1 413");
  await expectServed(server);
});

test.each([...RUNTIMES])("%s: who reads slowly gets all of it, and who reads nothing is let go", async (runtime) => {
  await using server = await start(
    runtime,
    { maxContext: 9_000_000, partTokens: 2000 },
    { limits: { stalledMs: 1000 } },
  );
  // More than the buffers of a connection hold.
  const idle = Array.from({ length: 3 }, () => {
    const one = open(server, request({ stream: true, max_tokens: 8_000_000 }));
    one.socket.pause();
    return one;
  });
  await until(server, ({ running }) => running === 3);
  await expectServed(server);
  await until(server, isEmpty);
  await server.logged(({ gone }) => typeof gone === "string" && gone.includes("took nothing"));
  for (const { socket } of idle) socket.destroy();

  using slow = open(server, request({ stream: true, max_tokens: 300_000 }));
  const pauses = setInterval(() => {
    slow.socket.pause();
    setTimeout(() => slow.socket.resume(), 10);
  }, 20);
  await slow.until("[DONE]");
  clearInterval(pauses);
  const said = [...slow.text().matchAll(/"text":"(.*?)"/g)].map(([, text]) => text).join("");
  expect(said).toBe(
    scriptedTokens([97, 98, 99], 0, 300_000)
      .map((id) => String.fromCharCode(id))
      .join(""),
  );
});
