import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { writeRandomCheckpoint } from "../../test/random-checkpoint.ts";
import { ModelError } from "../errors.ts";
import { openModel } from "./model.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-model-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("where there is no file system, as in a page, a folder is refused with what to do", () => {
  const original = process.getBuiltinModule;
  Reflect.set(process, "getBuiltinModule", () => undefined);
  try {
    expect(() => openModel(folder)).toThrow(ModelError);
    expect(() => openModel(folder)).toThrow("give openModel the files that fetchModel has fetched");
  } finally {
    Reflect.set(process, "getBuiltinModule", original);
  }
});

test("a head that is stored beside tied embeddings is kept, with a warning", () => {
  const path = join(folder, "untied");
  writeRandomCheckpoint(path, "LlamaForCausalLM", {});
  const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
  expect(openModel(path).warnings).toEqual([]);
  writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, tie_word_embeddings: true }));
  const model = openModel(path);
  expect(model.config.tiedEmbeddings).toBe(false);
  expect(model.warnings).toEqual([expect.stringContaining("lm_head.weight is stored beside the embeddings")]);
  const tied = join(folder, "tied");
  writeRandomCheckpoint(tied, "LlamaForCausalLM", { tie_word_embeddings: true });
  expect(openModel(tied)).toMatchObject({ config: { tiedEmbeddings: true }, warnings: [] });
});

describe("a model's chat template", () => {
  const path = join(folder, "chat");
  writeRandomCheckpoint(path, "LlamaForCausalLM", {});
  const open = (config: object) => {
    writeFileSync(join(path, "tokenizer_config.json"), JSON.stringify(config));
    return openModel(path);
  };
  test("none", () => {
    const model = open({});
    expect(model.chatTemplate).toBeUndefined();
    expect(model.chatProblem).toBe(`${path} has no chat template`);
    expect(model.warnings).toEqual([]);
  });
  test("one that can be used", () => {
    const model = open({ bos_token: "<s>", chat_template: "{{ bos_token }}{{ messages[0].content }}" });
    expect(model.chatTemplate?.render([{ role: "user", content: "Hi" }])).toBe("<s>Hi");
    expect(model.chatProblem).toBeUndefined();
    expect(model.warnings).toEqual([]);
  });
  test("one that cannot: the model is opened, for texts, with a warning of the line", () => {
    const model = open({ chat_template: "{{ bos_token }}\n{{ messages | frobnicate }}" });
    expect(model.chatTemplate).toBeUndefined();
    const problem = `found an unknown filter "frobnicate" in line 2.`;
    expect(model.chatProblem).toContain(
      `tokenizer_config.json: expected a chat template that can be used, but ${problem}`,
    );
    expect(model.warnings).toEqual([`${model.chatProblem} Conversations are refused.`]);
  });
});

test("the index says which file holds a tensor", () => {
  const path = join(folder, "sharded");
  writeRandomCheckpoint(path, "LlamaForCausalLM", {}, { isSharded: true });
  const file = join(path, "model.safetensors.index.json");
  const index = JSON.parse(readFileSync(file, "utf8"));
  const reopen = (changes: object) => {
    writeFileSync(file, JSON.stringify({ ...index, weight_map: { ...index.weight_map, ...changes } }));
    return openModel(path);
  };
  const name = "model.norm.weight";
  const files = [1, 2, 3].map((part) => `model-0000${part}-of-00003.safetensors`);
  const [other = ""] = files.filter((candidate) => candidate !== index.weight_map[name]);
  expect(reopen({}).warnings).toEqual([]);
  expect(() => reopen({ [name]: other })).toThrow(`${other}: expected a tensor ${name}, but found none`);
  for (const outside of ["../sharded/x.safetensors", "/etc/passwd", "..", "", 5, { toString: 1 }]) {
    expect(() => reopen({ [name]: outside })).toThrow(`weight_map of "${name}" to name a file of the folder`);
  }
  expect(() => reopen({ [name]: undefined })).toThrow(`index.json: expected a tensor ${name}, but found none`);
  // Another copy of the tensor, in a file that the index does not name for it, is not the one that counts.
  const heap = SharedHeap.create(4096);
  writeSafetensors(join(path, "a.safetensors"), new Map([[name, Tensor.zeros(heap, "f32", [7])]]));
  expect(reopen({ extra: "a.safetensors" }).warnings).toEqual([]);
});

test("a directory where the weights should be", () => {
  const path = join(folder, "directory");
  writeRandomCheckpoint(path, "LlamaForCausalLM", {});
  rmSync(join(path, "model.safetensors"));
  mkdirSync(join(path, "model.safetensors"));
  expect(() => openModel(path)).toThrow("such as a directory");
});
