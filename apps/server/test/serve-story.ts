// The server over the story engine, on a free port of the loopback; prints its address. POST /story/hang, /story/go-on,
// /story/restarting and /story/ready tell the engine what to do.
import process from "node:process";
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

const commands: Readonly<Record<string, () => void>> = {
  "/story/hang": () => engine.hang(),
  "/story/go-on": () => engine.goOn(),
  "/story/restarting": () => engine.setState("restarting"),
  "/story/ready": () => engine.setState("ready"),
};

async function answer(request: Request): Promise<Response> {
  const command = commands[new URL(request.url).pathname];
  if (command === undefined) return await app.fetch(request);
  command();
  return new Response();
}

const { port } = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch: answer });
console.log(`http://127.0.0.1:${port}/`);
