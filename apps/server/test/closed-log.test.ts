// A server whose log nobody reads any more, as a program that it was piped to has ended, goes on serving.
import { expect, setDefaultTimeout, test } from "bun:test";
import { MODEL } from "./scripted-app.ts";
import { scriptedText } from "./scripted-engine.ts";
import { RUNTIMES, SCRIPTED, startServer } from "./server-process.ts";

setDefaultTimeout(60_000);

test.each([...RUNTIMES])("%s", async (runtime) => {
  await using server = await startServer(runtime, SCRIPTED);
  await server.closeLog();
  for (let request = 0; request < 20; request++) {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: MODEL, prompt: "abc", max_tokens: 5 }),
    });
    expect((await response.json()).choices[0].text).toBe(scriptedText("abc", 0, 5));
  }
  server.kill("SIGTERM");
  expect(await server.exited).toBe(0);
});
