import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { ChatTemplateError } from "../errors.ts";
import { type Model, openModel } from "../model/model.ts";
import { chatPrompt } from "./chat-prompt.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-chat-prompt-"));
afterAll(() => rmSync(folder, { recursive: true }));
cpSync(MODEL_FOLDER, folder, { recursive: true });

/** The shipped model, whose tokenizer adds its special token before a text, with this chat template. */
function withTemplate(template: string): Model {
  writeFileSync(join(folder, "chat_template.jinja"), template);
  const definition = JSON.parse(readFileSync(join(MODEL_FOLDER, "tokenizer.json"), "utf8"));
  const begin = "<|endoftext|>";
  definition.post_processor = {
    ...definition.post_processor,
    single: [{ SpecialToken: { id: begin, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    special_tokens: { [begin]: { id: begin, ids: [0], tokens: [begin] } },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(definition));
  return openModel(folder);
}

const hello = [{ role: "user", content: "Once upon a time" }];
const TEMPLATE = `{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}`;

test("the special tokens are those of the template, each once", () => {
  const model = withTemplate(TEMPLATE);
  const { tokenizer } = model;
  const part = (text: string): number[] => tokenizer.encode(text, { addSpecialTokens: false });
  const ids = chatPrompt(model, hello);
  expect(ids).toEqual([0, ...part("user: Once upon a time"), 0, ...part("\nassistant:")]);
  expect(tokenizer.encode("Once")).toEqual([0, ...part("Once")]);
  const unasked = chatPrompt(model, hello, { addGenerationPrompt: false });
  expect(unasked).toEqual([0, ...part("user: Once upon a time"), 0, ...part("\n")]);
});

test("a model without a template says so, one with a broken template says where it is broken", () => {
  expect(() => chatPrompt(openModel(MODEL_FOLDER), hello)).toThrow(ChatTemplateError);
  expect(() => chatPrompt(openModel(MODEL_FOLDER), hello)).toThrow("has no chat template");
  const broken = withTemplate("{% for m in messages %}\n{{ m.content | frobnicate }}{% endfor %}");
  expect(() => chatPrompt(broken, hello)).toThrow(ChatTemplateError);
  expect(() => chatPrompt(broken, hello)).toThrow('an unknown filter "frobnicate" in line 2');
});

test("what are no messages is the caller's error", () => {
  expect(() => chatPrompt(withTemplate(TEMPLATE), [])).toThrow(ArgumentError);
});
