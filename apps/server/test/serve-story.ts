// The server over the story engine, on a free port of the loopback; prints its address. Told to over stdin, line by
// line: `hang`, `go on`, `restarting`, `ready`.
import process from "node:process";
import { createInterface } from "node:readline";
import { createApp } from "../src/app.ts";
import { LIVE_INTERVALS } from "../src/live/live-feed.ts";
import { livePage } from "../src/live-page.ts";
import { StoryEngine } from "./story-engine.ts";
import { storyTokenizer } from "./story-tokens.ts";

const [texts = "all", token] = process.argv.slice(2);
const engine = new StoryEngine();
const app = createApp({
  engine,
  modelName: "story",
  tokenizer: storyTokenizer,
  token,
  page: livePage({ texts: texts === "own" ? "own" : "all", intervals: { ...LIVE_INTERVALS, stuckMs: 1000 } }),
});

const { port } = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch: app.fetch });
console.log(`http://127.0.0.1:${port}/`);

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "hang") engine.hang();
  else if (line === "go on") engine.goOn();
  else if (line === "restarting" || line === "ready") engine.setState(line);
  else throw new Error(`expected a command, but found ${line}`);
}
await engine.close();
process.exit(0);
