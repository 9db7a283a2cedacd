// POST /admin/resize: who may have it, what it refuses, and that texts go on.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Engine, MoveFailed, openModel, type ResizeChanges, UnfitOptions } from "@lockstep/language-model";
import { ArgumentError } from "@lockstep/tensor";
import { createApp } from "../src/app.ts";
import { parseOptions } from "../src/options.ts";
import { ModelTokenizer } from "../src/tokenize/model-tokenizer.ts";
import { UsageError } from "../src/usage-error.ts";
import { DEMO_MODEL } from "./chatting-model.ts";
import { eventsOf, scriptedApp } from "./scripted-app.ts";

setDefaultTimeout(120_000);

const PATH = "/admin/resize";

test("there is no such path unless the server was told to have it", async () => {
  const { get, post } = scriptedApp();
  expect([(await post(PATH, { ranks: 2 })).status, (await get(PATH)).status]).toEqual([404, 404]);
  const on = scriptedApp({}, { resize: async () => {} });
  const refused = await on.get(PATH);
  expect([refused.status, refused.headers.get("allow")]).toEqual([405, "POST"]);
  expect(parseOptions([], {}).resize).toBe(false);
  expect(parseOptions(["--resize"], {}).resize).toBe(true);
  expect(parseOptions(["--resize", "--host", "0.0.0.0", "--token", "t"], {}).resize).toBe(true);
  expect(() => parseOptions(["--resize", "--host", "0.0.0.0"], {})).toThrow(UsageError);
});

test("it takes the token that all takes", async () => {
  const { post } = scriptedApp({}, { token: "right", resize: async () => {} });
  expect((await post(PATH, { ranks: 2 })).status).toBe(401);
  expect((await post(PATH, { ranks: 2 }, { headers: { authorization: "Bearer right" } })).status).toBe(200);
});

test("the engine is told what is given; how ranks share caches is chosen anew with other ranks", async () => {
  const told: ResizeChanges[] = [];
  const { post, logged } = scriptedApp({}, { resize: async (changes) => void told.push(changes) });
  for (const body of [
    { ranks: 4 },
    { ranks: 4, dcp: 2, kv_weights: [3, 1] },
    { interleave: 2, block_size: 8, kv_tokens: 512 },
    { kv_bytes: [1024, 4096], ranks: null },
  ]) {
    const response = await post(PATH, body);
    expect([response.status, (await response.json()).ranks]).toEqual([200, 2]);
  }
  expect(told).toEqual([
    { world: 4, dcp: undefined, kvWeights: undefined, kvBytes: undefined },
    { world: 4, dcp: 2, kvWeights: [3, 1], kvBytes: undefined },
    { interleave: 2, blockSize: 8, kvTokens: 512 },
    { kvBytes: [1024, 4096] },
  ]);
  expect(logged.filter(({ event }) => event === "resized").length).toBe(4);
});

test.each([
  [{}, 400, "missing_field", null],
  [{ ranks: 0 }, 400, "too_small", "ranks"],
  [{ ranks: 65 }, 400, "too_big", "ranks"],
  [{ ranks: 2.5 }, 400, "invalid_type", "ranks"],
  [{ ranks: "4" }, 400, "invalid_type", "ranks"],
  [{ ranks: 4, kv_weights: [1, -1] }, 400, "too_small", "kv_weights[1]"],
  [{ ranks: 4, world: 4 }, 400, "unknown_parameter", "world"],
  [[4], 400, "invalid_type", null],
  ["not json", 400, "invalid_json", null],
] as const)("%j is refused before the engine hears of it", async (body, status, code, param) => {
  let isTold = false;
  const { post } = scriptedApp(
    {},
    {
      resize: async () => {
        isTold = true;
      },
    },
  );
  const response = await post(PATH, body);
  expect([response.status, isTold]).toEqual([status, false]);
  expect((await response.json()).error).toMatchObject({ code, param });
});

const FAILURES: readonly (readonly [code: string, status: number, param: string | null, error: Error])[] = [
  ["unfit_options", 400, null, new UnfitOptions("`dcp` must divide `world` 4, but is 3.", "Engine.open")],
  ["invalid_value", 400, "kv_weights", new ArgumentError("Engine.open", "kvWeights", "of 4 ranks", "[1]")],
  ["move_failed", 500, null, new MoveFailed("rank 3 died")],
];

test.each(FAILURES)("an error of the engine has an answer of its own: %s", async (code, status, param, error) => {
  const { post } = scriptedApp({}, { resize: () => Promise.reject(error) });
  const response = await post(PATH, { ranks: 4 });
  expect(response.status).toBe(status);
  expect((await response.json()).error).toMatchObject({ code, param });
});

test("one at a time, which whoever drains waits for; none once it drains", async () => {
  const held = Promise.withResolvers<void>();
  const { post, app } = scriptedApp({}, { resize: () => held.promise });
  const first = post(PATH, { ranks: 4 });
  const second = await post(PATH, { ranks: 3 });
  expect([second.status, (await second.json()).error.code]).toEqual([409, "resize_under_way"]);
  let isDrained = false;
  const drained = app.drain().then(() => {
    isDrained = true;
  });
  expect((await post(PATH, { ranks: 3 })).status).toBe(503);
  expect(isDrained).toBe(false);
  held.resolve();
  expect((await first).status).toBe(200);
  await drained;
});

test("streams go on in the middle of a text, with the text that they would have had; nothing is computed again", async () => {
  const model = openModel(DEMO_MODEL);
  using tokenizer = new ModelTokenizer(model);
  const answers = async (changes: readonly object[]) => {
    await using engine = await Engine.open(model, { world: 2, dcp: 2, backend: "wasm", maxContext: 256 });
    const app = createApp({ engine, modelName: "demo", tokenizer, resize: (to, how) => engine.resize(to, how) });
    const post = (path: string, body: object): Promise<Response> => {
      const headers = { "content-type": "application/json" };
      return app.fetch(new Request(`http://127.0.0.1${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
    };
    const streams = ["Psa23:1 The LORD is", "Gen1:1 In the", "John3:16 For God"].map((prompt, seed) => {
      const sampling = { temperature: seed, seed, max_tokens: 80, ignore_eos: true, stream: true };
      return post("/v1/completions", { model: "demo", prompt, ...sampling });
    });
    const texts = streams.map(async (response) => {
      const events = (await eventsOf(await response)) as { choices: { text: string }[] }[];
      return events.map(({ choices }) => choices[0]?.text ?? "").join("");
    });
    const ranks: number[] = [];
    for (const change of changes) {
      while (engine.status().totals.generatedTokens < 30 * (1 + ranks.length)) await Bun.sleep(1);
      const response = await post(PATH, change);
      expect(response.status).toBe(200);
      const told = await response.json();
      expect(told.rank_block_tokens.length).toBe(told.ranks);
      ranks.push(told.ranks);
      expect(engine.status().running).toBe(3);
    }
    const found = await Promise.all(texts);
    const metrics = await (await app.fetch(new Request("http://127.0.0.1/metrics"))).text();
    const computed = /^lockstep_computed_tokens_total (\d+)$/m.exec(metrics)?.[1];
    const shares = [...metrics.matchAll(/^lockstep_kv_block_tokens\{/gm)].length;
    return { found, ranks, computed, shares };
  };
  const undisturbed = await answers([]);
  const resized = await answers([{ ranks: 4, dcp: 4 }, { ranks: 1 }]);
  expect(resized.ranks).toEqual([4, 1]);
  expect(resized.found).toEqual(undisturbed.found);
  expect(resized.computed).toBe(undisturbed.computed ?? "none");
  expect([undisturbed.shares, resized.shares]).toEqual([2, 1]);
});
