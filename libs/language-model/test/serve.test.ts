// The example of the README, which is examples/serve.ts: a server that streams what the model says.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Generator } from "../src/generation/generator.ts";
import { continuation, greedy, MODEL_FOLDER, model } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const EXAMPLE = own("../examples/serve.ts");

test("the README shows the example as it is", () => {
  expect(readFileSync(own("../README.md"), "utf8")).toContain(`\`\`\`ts\n${readFileSync(EXAMPLE, "utf8")}\`\`\``);
});

test("texts sent at once are continued as each is alone, bad ones are refused, and it ends when told to", async () => {
  await using child = Bun.spawn([process.execPath, EXAMPLE, MODEL_FOLDER], { stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  let said = "";
  while (!said.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) expect.unreachable();
    said += new TextDecoder().decode(value);
  }
  const url = said.match(/http:\S+/)?.[0] ?? expect.unreachable();
  const post = async (body: string): Promise<[number, string]> => {
    const response = await fetch(url, { method: "POST", body });
    return [response.status, await response.text()];
  };

  const prompts = greedy.slice(0, 2);
  const found = await Promise.all(prompts.map(({ prompt }) => post(prompt)));
  await using generator = await Generator.open(model, { world: 1, backend: "wasm", capacity: 64 });
  for (const [index, { promptIds, greedyIds }] of prompts.entries()) {
    const tokens = await continuation(generator, promptIds, 24);
    expect(tokens).toEqual(greedyIds.slice(0, 24));
    expect(found[index]).toEqual([200, model.tokenizer.decode(tokens)]);
  }
  expect((await post(""))[0]).toBe(400);
  expect((await post("word ".repeat(600)))[0]).toBe(400);

  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});
