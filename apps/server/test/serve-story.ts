// A program: the server and its page over the engine that tells a story, in Bun or Deno. Its arguments: whose texts the
// page shows, and the token that is wanted, if one is. A line "hang", "go", "restarting" or "ready" on its input is done
// to the engine.
import process from "node:process";
import { createInterface } from "node:readline";
import { lineWriter } from "../src/http/line-writer.ts";
import { jsonLines } from "../src/http/request-log.ts";
import { listenInBun } from "../src/listen/bun.ts";
import { listenInDeno } from "../src/listen/deno.ts";
import { LIVE_INTERVALS } from "../src/live/live-feed.ts";
import { livePage } from "../src/live-page.ts";
import { runServer } from "../src/run-server.ts";
import { StoryEngine } from "./story-engine.ts";
import { storyTokenizer } from "./story-tokens.ts";

const [texts, token] = process.argv.slice(2);
const engine = new StoryEngine();

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "hang") engine.hang();
  else if (line === "go") engine.goOn();
  else if (line === "restarting" || line === "ready") engine.setState(line);
});

const code = await runServer({
  engine,
  modelName: "story",
  tokenizer: storyTokenizer,
  token,
  log: jsonLines(lineWriter(process.stdout)),
  host: "127.0.0.1",
  port: 0,
  listen: "Bun" in globalThis ? listenInBun : listenInDeno,
  drainSeconds: 10,
  idleSeconds: 30,
  page: livePage({ texts: texts === "own" ? "own" : "all", intervals: { ...LIVE_INTERVALS, stuckMs: 1000 } }),
});
process.exit(code);
