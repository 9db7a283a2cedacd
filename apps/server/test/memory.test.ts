// What requests leave behind: nothing.
import { heapStats } from "bun:jsc";
import { expect, setDefaultTimeout, test } from "bun:test";
import { MODEL, scriptedApp } from "./scripted-app.ts";

setDefaultTimeout(120_000);

test("requests of all kinds leave no objects behind", async () => {
  const { post, logged } = scriptedApp({ maxRunning: 64, maxWaiting: 64, partTokens: 3 });
  const request = async (index: number): Promise<void> => {
    const body = { model: MODEL, prompt: `abc${index}`, max_tokens: index % 7 === 0 ? 0 : 9, stream: index % 2 === 0 };
    const response = await post("/v1/completions", body);
    if (index % 10 === 0) await response.body?.cancel();
    else await response.text();
  };
  const round = async (): Promise<number> => {
    for (let turn = 0; turn < 20; turn++) await Promise.all(Array.from({ length: 50 }, (_, index) => request(index)));
    logged.length = 0;
    Bun.gc(true);
    return heapStats().objectCount;
  };
  await round();
  const before = await round();
  await round();
  await round();
  // One object of each request would be 3,000.
  expect((await round()) - before).toBeLessThan(1500);
});
