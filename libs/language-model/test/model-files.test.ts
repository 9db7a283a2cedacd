// Models whose files are in memory, or come over HTTP: the same tokens as from a folder.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  fetchModel,
  Generator,
  ModelError,
  type ModelFiles,
  type ModelSource,
  openModel,
} from "@lockstep/language-model";
import { ArgumentError, MemoryNotShared, SafetensorsError } from "@lockstep/tensor";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import { outcomeOf, reasonOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "lockstep-files-"));
const single = join(root, "single");
const sharded = join(root, "sharded");
const names = (folder: string): string[] => readdirSync(folder);
const filesOf = (folder: string): ModelFiles =>
  Object.fromEntries(names(folder).map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));

/** How the server behaves for a folder `/<manner>/single/...`. */
const MANNERS = {
  plain: (bytes: Uint8Array<ArrayBuffer>): Response => new Response(bytes),
  // No length: the body is a stream.
  streamed: (bytes: Uint8Array<ArrayBuffer>): Response =>
    new Response(
      new ReadableStream({
        start(controller) {
          for (let at = 0; at < bytes.length; at += 70_000) controller.enqueue(bytes.slice(at, at + 70_000));
          controller.close();
        },
      }),
    ),
  stalling: (bytes: Uint8Array<ArrayBuffer>): Response =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(bytes.slice(0, 100));
        },
      }),
    ),
  broken: (): Response => new Response("no", { status: 503 }),
} as const;

let server: ReturnType<typeof Bun.serve>;
const url = (manner: keyof typeof MANNERS | "app", folder: string): string => `${server.url.href}${manner}/${folder}`;

beforeAll(() => {
  writeRandomCheckpoint(single, "LlamaForCausalLM", {});
  writeRandomCheckpoint(sharded, "Qwen3ForCausalLM", { head_dim: 8 }, { dtype: "bf16", isSharded: true });
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const [, manner = "", ...path] = new URL(request.url).pathname.split("/");
      const file = Bun.file(join(root, ...path));
      const isApp = manner === "app";
      if (!(await file.exists())) {
        // As servers of single-page apps do.
        if (isApp) return new Response("<html></html>", { headers: { "content-type": "text/html; charset=utf-8" } });
        return new Response("none", { status: 404 });
      }
      const answer = MANNERS[isApp ? "plain" : (manner as keyof typeof MANNERS)];
      return answer(new Uint8Array(await file.arrayBuffer()));
    },
  });
});
afterAll(async () => {
  await server.stop(true);
  rmSync(root, { recursive: true });
});

async function continueText(source: ModelSource): Promise<number[]> {
  await using generator = await Generator.open(openModel(source), { world: 2, backend: "wasm", capacity: 48 });
  const tokens: number[] = [];
  for await (const token of generator.generate([5, 6, 7, 1000], { maxTokens: 12 })) tokens.push(token);
  return tokens;
}

test("files in memory give the tokens that their folder gives, from one file of weights or several", async () => {
  for (const folder of [single, sharded]) {
    expect(await continueText(filesOf(folder))).toEqual(await continueText(folder));
  }
});

test("weights in the memory of one thread are copied to what ranks share, and shared ones are not", () => {
  const files = filesOf(single);
  const { source, folder } = openModel(files);
  const weights = typeof source === "string" ? undefined : source["model.safetensors"];
  expect(folder).toBe("the model");
  expect(weights?.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(weights).toEqual(files["model.safetensors"]);
  const again = openModel(source).source;
  expect(typeof again === "string" ? undefined : again["model.safetensors"]).toBe(weights);
});

test("files that are missing, cut or none are refused by name, before any rank starts", () => {
  const files = filesOf(single);
  for (const name of ["config.json", "tokenizer.json"]) {
    const { [name]: _, ...rest } = files;
    expect(() => openModel(rest)).toThrow(ModelError);
    expect(() => openModel(rest)).toThrow(`${name}: expected a file of that name, but found none.`);
  }
  const { "model.safetensors": weights = new Uint8Array(), ...rest } = files;
  expect(() => openModel(rest)).toThrow("model.safetensors: expected a file of that name, but found none.");
  expect(() => openModel({ ...files, "model.safetensors": weights.slice(0, -1) })).toThrow(SafetensorsError);
  expect(() => openModel({ ...files, "config.json": new TextEncoder().encode("{") })).toThrow("expected JSON");
  expect(() => openModel({ ...files, extra: "text" as unknown as Uint8Array })).toThrow(ArgumentError);
  expect(() => openModel(null as unknown as ModelFiles)).toThrow(ArgumentError);
});

test.each(["plain", "streamed", "app"] as const)(
  "a model that is fetched (%s) is the one of the folder",
  async (manner) => {
    for (const [name, folder] of Object.entries({ single, sharded })) {
      const seen: (readonly [number, number | undefined])[] = [];
      const files = await fetchModel(url(manner, name), { onBytes: (bytes, total) => seen.push([bytes, total]) });
      expect(Object.keys(files).sort()).toEqual(names(folder).sort());
      let weightBytes = 0;
      for (const [file, bytes] of Object.entries(files)) {
        expect(Buffer.compare(bytes.slice(), readFileSync(join(folder, file)))).toBe(0);
        if (!file.endsWith(".safetensors")) continue;
        expect(bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
        weightBytes += bytes.length;
      }
      expect(seen.at(-1)).toEqual([weightBytes, manner === "streamed" ? undefined : weightBytes]);
      openModel(files);
    }
  },
);

test("a folder's search goes with each file, its hash does not, and errors keep it to themselves", async () => {
  const asked: string[] = [];
  const { fetch } = globalThis;
  const record = (input: Request | URL | string, init?: RequestInit): Promise<Response> => {
    asked.push(String(input));
    return fetch(input, init);
  };
  Reflect.set(globalThis, "fetch", record);
  try {
    const base = url("plain", "single");
    await fetchModel(new URL(`${base}?signature=a/b#part`));
    expect(asked).toContain(`${base}/config.json?signature=a/b`);
    expect(asked.every((address) => address.endsWith("?signature=a/b"))).toBe(true);
    const error = await fetchModel(`${url("plain", "nowhere")}/?signature=a`).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ModelError);
    expect(String(error)).toContain("nowhere/config.json: expected a file");
    expect(String(error)).not.toContain("signature");
  } finally {
    Reflect.set(globalThis, "fetch", fetch);
  }
  const misspelt = fetchModel(url("plain", "single"), { stallMS: 5 } as never);
  expect(await outcomeOf(misspelt)).toThrow('an object with onBytes, stallMs, signal, but is one with "stallMS"');
});

test("a page without cross-origin isolation is told so, whether or not SharedArrayBuffer is there", async () => {
  const files = filesOf(single);
  const model = openModel(files);
  const shared = SharedArrayBuffer;
  Reflect.set(globalThis, "crossOriginIsolated", false);
  Reflect.deleteProperty(globalThis, "SharedArrayBuffer");
  try {
    expect(() => openModel(files)).toThrow(MemoryNotShared);
    expect(await outcomeOf(fetchModel(url("plain", "single")))).toThrow(MemoryNotShared);
    expect(await outcomeOf(Generator.open(model, { world: 1, dcp: 1, backend: "wasm" }))).toThrow(MemoryNotShared);
    Reflect.set(globalThis, "SharedArrayBuffer", shared);
    expect(await outcomeOf(fetchModel(url("plain", "single")))).toThrow(MemoryNotShared);
    expect(await outcomeOf(Generator.open(model, { world: 1, dcp: 1, backend: "wasm" }))).toThrow(MemoryNotShared);
  } finally {
    Reflect.set(globalThis, "SharedArrayBuffer", shared);
    Reflect.deleteProperty(globalThis, "crossOriginIsolated");
  }
});

test("a model that does not come ends in an error that names the file", async () => {
  expect(await outcomeOf(fetchModel(url("plain", "nowhere")))).toThrow(
    "nowhere/config.json: expected a file, but found none.",
  );
  expect(await outcomeOf(fetchModel(url("broken", "single")))).toThrow("an answer with status 503");
  const stalled = fetchModel(url("stalling", "single"), { stallMs: 200 });
  expect(await outcomeOf(stalled)).toThrow("config.json: expected bytes, but found none for 200 ms.");
  await stalled.catch(() => undefined);
  expect(await outcomeOf(fetchModel("ftp://127.0.0.1/model"))).toThrow(ArgumentError);
  expect(await outcomeOf(fetchModel(url("plain", "single"), { stallMs: 0 }))).toThrow(ArgumentError);
  const reason = new Error("enough");
  expect(await reasonOf(fetchModel(url("stalling", "single"), { signal: AbortSignal.abort(reason) }))).toBe(reason);
  await server.stop(true);
  expect(await outcomeOf(fetchModel(url("plain", "single")))).toThrow(ModelError);
});
