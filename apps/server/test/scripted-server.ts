// A program: a server over an engine without a model, in Bun or Deno. Its arguments are JSON: what the engine does, and
// options of the server. A line "hang", "go on", "fail 1" or "state restarting" on its input is done to the engine.
import process from "node:process";
import { createInterface } from "node:readline";
import { lineWriter } from "../src/http/line-writer.ts";
import { jsonLines } from "../src/http/request-log.ts";
import { listenInBun } from "../src/listen/bun.ts";
import { listenInDeno } from "../src/listen/deno.ts";
import { type RunOptions, runServer } from "../src/run-server.ts";
import { MODEL } from "./scripted-app.ts";
import { type Script, ScriptedEngine, scriptedTokenizer } from "./scripted-engine.ts";

const [scriptText = "{}", optionsText = "{}"] = process.argv.slice(2);
const script: Script = JSON.parse(scriptText);
const options: Partial<RunOptions> = JSON.parse(optionsText);
const engine = new ScriptedEngine(script);

createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, argument = ""] = line.split(" ");
  if (what === "hang") engine.hang();
  else if (what === "go") engine.goOn();
  else if (what === "fail") engine.fail(Number(argument));
});

const code = await runServer({
  engine,
  modelName: MODEL,
  tokenizer: scriptedTokenizer,
  log: jsonLines(lineWriter(process.stdout)),
  host: "127.0.0.1",
  port: 0,
  listen: "Bun" in globalThis ? listenInBun : listenInDeno,
  drainSeconds: 10,
  idleSeconds: 30,
  ...options,
});
process.exit(code);
