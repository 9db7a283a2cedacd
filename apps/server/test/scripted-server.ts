// A program: a server over an engine without a model, in Bun or Deno. Its arguments are JSON: what the engine does, and
// options of the server. A line "hang", "go on" or "fail 1" on its input is done to the engine.
import process from "node:process";
import type { RunOptions } from "../src/run-server.ts";
import { runTestServer } from "./run-test-server.ts";
import { MODEL } from "./scripted-app.ts";
import { type Script, ScriptedEngine, scriptedTokenizer } from "./scripted-engine.ts";

const [scriptText = "{}", optionsText = "{}"] = process.argv.slice(2);
const script: Script = JSON.parse(scriptText);
const options: Partial<RunOptions> = JSON.parse(optionsText);
const engine = new ScriptedEngine(script);

await runTestServer({ engine, modelName: MODEL, tokenizer: scriptedTokenizer, ...options }, (line) => {
  const [what, argument = ""] = line.split(" ");
  if (what === "hang") engine.hang();
  else if (what === "go") engine.goOn();
  else if (what === "fail") engine.fail(Number(argument));
});
