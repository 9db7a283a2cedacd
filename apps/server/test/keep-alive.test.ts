// A stream that waits, for its turn or for the next token, says that it lives, in comments that readers pass over.
import { expect, test } from "bun:test";
import { MODEL, scriptedApp } from "./scripted-app.ts";
import { scriptedText } from "./scripted-engine.ts";

const COMMENT = ": keep-alive\n\n";
const limits = { keepAliveMs: 5 };

/** Reads pieces of an answer until they hold `part`. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, part: string): Promise<string> {
  const decoder = new TextDecoder();
  for (let text = ""; ; ) {
    if (text.includes(part)) return text;
    const { done, value } = await reader.read();
    if (done) throw new Error(`the stream ended after ${text}`);
    text += decoder.decode(value, { stream: true });
  }
}

function readerOf(response: Response): ReadableStreamDefaultReader<Uint8Array> {
  return response.body?.getReader() ?? expect.unreachable();
}

const dataOf = (text: string): unknown[] =>
  text
    .split("\n\n")
    .flatMap((block) => (block.startsWith("data: {") ? [JSON.parse(block.slice("data: ".length))] : []));

test.each(["/v1/completions", "/v1/chat/completions"])(
  "%s: in the queue, and while a token is computed",
  async (path) => {
    const app = scriptedApp({ maxRunning: 1 }, { limits });
    const chat = path.includes("chat");
    const asked = chat ? { messages: [{ role: "user", content: "abc" }] } : { prompt: "abc" };
    const ask = (): Promise<Response> => app.post(path, { model: MODEL, ...asked, max_tokens: 3, stream: true });
    app.engine.hang();
    const [computed, waiting] = [readerOf(await ask()), readerOf(await ask())];
    let text = await readUntil(waiting, COMMENT + COMMENT);
    await readUntil(computed, COMMENT + COMMENT);
    app.engine.goOn();
    const rests = await Promise.all([waiting, computed].map((reader) => readUntil(reader, "[DONE]")));
    text += rests[0];
    const said = dataOf(text).map((event) => {
      const { choices } = event as { choices: { text?: string; delta?: { content?: string } }[] };
      return choices[0]?.text ?? choices[0]?.delta?.content ?? "";
    });
    expect(said.join("")).toBe(scriptedText(chat ? "<user>abc" : "abc", 0, 3));
  },
);

test("who takes nothing is sent no more comments, and a stream that is over sends none", async () => {
  const app = scriptedApp({}, { limits });
  app.engine.hang();
  const response = await app.post("/v1/completions", { model: MODEL, prompt: "abc", max_tokens: 1, stream: true });
  await Bun.sleep(100);
  const reader = readerOf(response);
  // One that was kept, and those of the time since it was taken.
  const { value } = await reader.read();
  expect(new TextDecoder().decode(value)).toBe(COMMENT);
  app.engine.goOn();
  const rest = await readUntil(reader, "[DONE]\n\n");
  expect(rest).toEndWith("data: [DONE]\n\n");
  expect((await reader.read()).done).toBe(true);
});
