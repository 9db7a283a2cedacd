import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ChatTemplateError, openModel, Tokenizer } from "@lockstep/language-model";
import { chattingModel } from "../../test/chatting-model.ts";
import { ModelTokenizer } from "./model-tokenizer.ts";
import { tokensOf } from "./tokens.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(30_000);

const model = openModel(fileURLToPath(new URL("../../../demo/model", import.meta.url)));
const VERSE = "In the beginning God created the heaven and the earth. ";
const messages = (content: string) => [{ role: "user", content }];

test("long texts have the tokens that short ones have, made beside others' work", async () => {
  using tokenizer = new ModelTokenizer(model);
  const short = VERSE.repeat(10);
  expect(tokenizer.encode(short)).toEqual(model.tokenizer.encode(short));
  const long = VERSE.repeat(4000);
  let turns = 0;
  const turn = setInterval(() => turns++, 1);
  const [ids, others] = await Promise.all([tokenizer.encode(long), tokenizer.encode(`${long}!`)]);
  clearInterval(turn);
  expect(turns).toBeGreaterThan(0);
  expect(ids).toEqual(model.tokenizer.encode(long));
  expect(others).toEqual(model.tokenizer.encode(`${long}!`));
});

test("the longest token bounds what texts can be", () => {
  using tokenizer = new ModelTokenizer(model);
  const longest = Math.max(...Array.from({ length: 4096 }, (_, id) => tokenizer.textOf(id).length));
  expect(tokenizer.longestToken).toBe(longest);
});

test("the text of a token has the space that it begins with, whatever the decoder", () => {
  const replace = { type: "Replace", pattern: { String: "▁" }, content: " " };
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  const decoders: [string, object | null][] = [
    ["Llama 2", { type: "Sequence", decoders: [replace, { type: "ByteFallback" }, { type: "Fuse" }, strip] }],
    ["Metaspace", { type: "Metaspace", replacement: "▁" }],
  ];
  const vocab = ["<unk>", "▁the", "re", "▁", "<0x41>", "<0xE2>", "<s>"];
  for (const [name, decoder] of decoders) {
    using folder = chattingModel();
    const definition = {
      version: "1.0",
      added_tokens: [{ id: 6, content: "<s>", special: true, normalized: false }],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder,
      model: {
        type: "BPE",
        unk_token: "<unk>",
        byte_fallback: true,
        vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
        merges: [],
      },
    };
    writeFileSync(join(folder.path, "tokenizer.json"), JSON.stringify(definition));
    const { textOf } = tokensOf({ tokenizer: Tokenizer.open(folder.path), chatTemplate: undefined });
    expect([name, ...[1, 2, 3, 6].map(textOf)]).toEqual([name, " the", "re", " ", ""]);
    if (name === "Llama 2") expect([4, 5].map(textOf)).toEqual(["A", "\uFFFD"]);
  }
});

test("a model without a chat template says so, for short and long conversations", async () => {
  using tokenizer = new ModelTokenizer(model);
  expect(() => tokenizer.encodeChat(messages("x"))).toThrow(ChatTemplateError);
  expect(await outcomeOf(tokenizer.encodeChat(messages(VERSE.repeat(1000))))).toThrow(ChatTemplateError);
});

test("conversations are made texts by the model's template, whatever their length", async () => {
  using folder = chattingModel();
  using tokenizer = new ModelTokenizer(openModel(folder.path));
  const text = (said: string): number[] => model.tokenizer.encode(`<user>${said}`, { addSpecialTokens: false });
  expect(tokenizer.encodeChat(messages("Who?"))).toEqual(text("Who?"));
  expect(await tokenizer.encodeChat(messages(VERSE.repeat(1000)))).toEqual(text(VERSE.repeat(1000)));
  const nobody = [{ role: "nobody", content: VERSE.repeat(1000) }];
  const refused = await Promise.resolve(tokenizer.encodeChat(nobody)).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(ChatTemplateError);
  expect(String(refused)).toContain("there is no nobody");
});

test("a long text that is given up holds nobody up, neither at the worker nor in its turn", async () => {
  using tokenizer = new ModelTokenizer(model);
  using other = new ModelTokenizer(model);
  // Both workers are there.
  await Promise.all([tokenizer, other].map((each) => each.encode(VERSE.repeat(100))));
  const huge = VERSE.repeat(60_000);
  const atWork = new AbortController();
  const inTurn = new AbortController();
  const failures = [atWork, inTurn].map(async ({ signal }) => {
    return await Promise.resolve(tokenizer.encode(huge, signal)).catch((error: unknown) => error);
  });
  const next = tokenizer.encode(VERSE.repeat(101));
  // The same text to its end, begun at the same time, and not given up.
  let isDone = false;
  const whole = Promise.resolve(other.encode(huge)).then((ids) => {
    isDone = true;
    return ids;
  });
  await Bun.sleep(20);
  inTurn.abort(new Error("gone from the queue"));
  atWork.abort(new Error("gone at work"));
  expect(await Promise.all(failures)).toEqual([new Error("gone at work"), new Error("gone from the queue")]);
  expect(await next).toEqual(model.tokenizer.encode(VERSE.repeat(101)));
  expect(isDone).toBe(false);
  expect((await whole).length).toBeGreaterThan(100_000);
  const late = AbortSignal.abort(new Error("too late"));
  expect(await outcomeOf(Promise.resolve(tokenizer.encode(huge, late)))).toThrow("too late");
  expect(await tokenizer.encode(VERSE.repeat(100))).toEqual(model.tokenizer.encode(VERSE.repeat(100)));
});

test("those who wait when it is closed are told, and it starts again for who comes after", async () => {
  const tokenizer = new ModelTokenizer(model);
  const waiting = tokenizer.encode(VERSE.repeat(1000));
  tokenizer[Symbol.dispose]();
  expect(await outcomeOf(waiting)).toThrow("the tokenizer was closed");
  expect(await tokenizer.encode(VERSE.repeat(100))).toEqual(model.tokenizer.encode(VERSE.repeat(100)));
  tokenizer[Symbol.dispose]();
});
