// A program: the server and its page over the engine that tells a story, in Bun or Deno. Its arguments: whose texts the
// page shows, and the token that is wanted, if one is. A line "hang", "go", "restarting" or "ready" on its input is
// done to the engine.
import process from "node:process";
import { LIVE_INTERVALS } from "../src/live/live-feed.ts";
import { livePage } from "../src/live-page.ts";
import { runTestServer } from "./run-test-server.ts";
import { StoryEngine } from "./story-engine.ts";
import { storyTokenizer } from "./story-tokens.ts";

const [texts, token] = process.argv.slice(2);
const engine = new StoryEngine();
const intervals = { ...LIVE_INTERVALS, stuckMs: 1000 };
const page = livePage({ texts: texts === "own" ? "own" : "all", intervals });

await runTestServer({ engine, modelName: "story", tokenizer: storyTokenizer, token, page }, (line) => {
  if (line === "hang") engine.hang();
  else if (line === "go") engine.goOn();
  else if (line === "restarting" || line === "ready") engine.setState(line);
});
