import { expect, setDefaultTimeout, test } from "bun:test";
import { commandOf, RUNTIMES, SCRIPTED, startServer } from "./server-process.ts";

setDefaultTimeout(60_000);

const CHECK = new URL("check-openai-client.ts", import.meta.url).pathname;

test.each([...RUNTIMES])("the official client in %s is served by a server there", async (runtime) => {
  const script = JSON.stringify({ tokenMs: 2 });
  // Comments between events, at the place of each token that is waited for.
  const options = JSON.stringify({ limits: { keepAliveMs: 1 } });
  await using server = await startServer(runtime, SCRIPTED, [script, options]);
  const client = Bun.spawn(commandOf(runtime, CHECK, [server.url]), { stdout: "pipe", stderr: "pipe" });
  const [said, complained] = await Promise.all([client.stdout, client.stderr].map((pipe) => new Response(pipe).text()));
  expect({ said, complained }).toEqual({ said: "the client was served\n", complained: "" });
  expect(await client.exited).toBe(0);
});
