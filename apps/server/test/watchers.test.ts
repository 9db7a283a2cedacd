// Pages that come and go, over real connections: each gives its place up when it goes, however it goes.
import { expect, setDefaultTimeout, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { RUNTIMES, startServer } from "./server-process.ts";

setDefaultTimeout(120_000);

const STORY = fileURLToPath(new URL("serve-story.ts", import.meta.url));
const MOST_WATCHERS = 16;

/** A connection that has asked for events, and has got the first of them. */
async function watch(port: number): Promise<{ socket: Socket; status: number }> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write("GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  let said = "";
  const status = await new Promise<number>((resolve, reject) => {
    socket.on("close", () => reject(new Error(`the connection was closed after ${said}`)));
    socket.on("data", (bytes) => {
      said += bytes;
      const [, code] = /^HTTP\/1\.1 (\d+)/.exec(said) ?? [];
      if (code !== undefined && (code !== "200" || said.includes("event: status"))) resolve(Number(code));
    });
  });
  socket.pause();
  return { socket, status };
}

test.each(RUNTIMES)(
  "%s: places of pages that have gone are free again, by close, by reset or half-closed",
  async (runtime) => {
    await using server = await startServer(runtime, STORY);
    const ways = [
      (socket: Socket) => socket.destroy(),
      (socket: Socket) => socket.resetAndDestroy(),
      (socket: Socket) => socket.end(() => socket.destroy()),
    ];
    for (const leave of ways) {
      const there: Socket[] = [];
      // As many as may be, and one more: the places of the last round become free in their time.
      while (there.length < MOST_WATCHERS) {
        const { socket, status } = await watch(server.port);
        if (status === 200) there.push(socket);
        else {
          expect(status).toBe(429);
          socket.destroy();
          await Bun.sleep(20);
        }
      }
      const refused = await fetch(`${server.url}/events`);
      expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "5"]);
      for (const socket of there) leave(socket);
    }
    // A server that many watched still ends when it is told to.
    server.kill("SIGTERM");
    expect(await server.exited).toBe(0);
  },
);
