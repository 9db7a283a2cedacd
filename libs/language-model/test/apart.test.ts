// Ranks that share no memory with each other, as those of several processes: generators, engines and trials run on them
// as they do on ranks that share one, and give the same bits.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openWorld } from "@lockstep/dist-groups";
import { ranksApart } from "../../dist-groups/test/apart/ranks-apart.ts";
import { Engine } from "../src/engine/engine.ts";
import type { GeneratedPart } from "../src/engine/request-options.ts";
import { RanksFailed } from "../src/errors.ts";
import { Generator } from "../src/generation/generator.ts";
import type { SizedOptions } from "../src/generation/generator-options.ts";
import { trialGroups } from "../src/generation/trial-program.ts";
import { WorldTrial } from "../src/generation/world-trial.ts";
import { checkpointSample } from "../src/model/checkpoint-sample.ts";
import { checkReach, modelFolder } from "../src/model/model-files.ts";
import type * as checkpoints from "./checkpoint-program.ts";
import { type CheckpointForm, writeRandomCheckpoint } from "./random-checkpoint.ts";
import { greedy, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(240_000);

const program = new URL("../src/engine/every-program.ts", import.meta.url);
const apart = () => ranksApart(program, ["dcp", "gpu"]);
const prompts = shortPrompts.slice(0, 2).map(({ promptIds }) => promptIds);
const [{ promptIds, greedyIds } = expect.unreachable()] = greedy;

/** Everything that a generator tells, but times. */
async function told(options: Omit<SizedOptions, "capacity" | "texts">) {
  await using generator = await Generator.open(model, { backend: "wasm", capacity: 120, texts: 2, ...options });
  const tokens: number[][] = [[], []];
  for await (const { text, token } of generator.generateAll(prompts, { maxTokens: 10, explain: 4 })) {
    tokens[text]?.push(token);
  }
  const explanation = await generator.explain();
  const [long = []] = greedy.filter((text) => text.promptIds.length > 100).map((text) => text.promptIds.slice(0, 100));
  const next = await generator.prefill(long);
  const logits = await generator.logits();
  const metrics = (await generator.metrics()).map(({ rank, backend, attention }) => {
    const { tokensHeld, bytesHeld, bytesReceived, combine } = attention;
    return { rank, backend, tokensHeld, bytesHeld, bytesReceived, combine };
  });
  return { tokens, explanation, next, logits: new Uint32Array(logits.buffer), metrics };
}

describe("a generator tells the same", () => {
  test.each<[string, Omit<SizedOptions, "capacity" | "texts">]>([
    ["2 ranks, a2a", { world: 2, combine: "a2a" }],
    ["3 ranks of one KV cache, one-shot", { world: 3, dcp: 3, kvHeads: "replicated", combine: "one-shot" }],
    ["4 ranks of two KV caches, ag-rs", { world: 4, dcp: 2, combine: "ag-rs", interleave: 4 }],
    [
      "2 ranks, int8 weights, static scales of an f8e4m3 cache, drafts, prompts in parts",
      {
        world: 2,
        dcp: 2,
        combine: "a2a",
        weights: "i8",
        kvDtype: "f8e4m3",
        kvScales: "static",
        calibration: promptIds,
        maxDraft: 3,
        prefillChunk: 24,
      },
    ],
  ])("%s", async (_, options) => {
    const shared = await told(options);
    expect(await told({ ...options, worker: apart() })).toEqual(shared);
    expect(shared.explanation?.ranks.length).toBe(options.world);
    expect(shared.logits.length).toBe(model.config.vocabularySize);
  });
});

interface Answer {
  readonly parts: readonly GeneratedPart[];
  readonly ids: readonly number[];
}

async function answer(parts: AsyncIterable<GeneratedPart>): Promise<Answer> {
  const all: GeneratedPart[] = [];
  for await (const part of parts) all.push(part);
  return { parts: all, ids: all.flatMap(({ tokens }) => tokens.map(({ id }) => id)) };
}

describe("an engine", () => {
  const options = { world: 2, backend: "wasm", maxContext: 256, blockSize: 4 } as const;

  test("gives every request the same tokens and log-probabilities, drawn or not", async () => {
    const asked = [0, 1, 2, 3].map((seed) => ({
      prompt: promptIds.slice(0, 4 + 3 * seed),
      options: { maxTokens: 12, temperature: seed * 0.5, topK: 40, topP: 0.9, seed, logprobs: 3 },
    }));
    const answers = async (worker?: ReturnType<typeof apart>): Promise<Answer["ids"][]> => {
      await using engine = await Engine.open(model, { ...options, ...(worker === undefined ? {} : { worker }) });
      const all = await Promise.all(asked.map((each) => answer(engine.generate(each.prompt, each.options))));
      expect(engine.status().totals).toMatchObject({ finished: asked.length, failed: 0 });
      return all.map(({ parts }) =>
        parts.flatMap(({ tokens }) =>
          tokens.flatMap(({ id, logprob, top = [] }) => [
            id,
            logprob ?? 0,
            ...top.flatMap(({ id: other, logprob: of }) => [other, of]),
          ]),
        ),
      );
    };
    const expected = await answers();
    expect(await answers(apart())).toEqual(expected);
  });

  test("saves what it knows of texts on every rank, and knows it again", async () => {
    const folder = mkdtempSync(join(tmpdir(), "lockstep-apart-"));
    try {
      const saving = { ...options, worker: apart(), prefixFolder: folder };
      const prompt = [...promptIds, ...greedyIds.slice(0, 20)];
      {
        await using engine = await Engine.open(model, saving);
        await answer(engine.generate(prompt, { maxTokens: 4 }));
        expect(await engine.savePrefixes()).toBeGreaterThan(0);
      }
      await using engine = await Engine.open(model, saving);
      const { parts, ids } = await answer(engine.generate(prompt, { maxTokens: 8 }));
      expect(ids).toEqual(greedyIds.slice(20, 28));
      expect(parts.at(-1)?.usage?.cachedTokens).toBeGreaterThan(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("is interrupted in a step, and names a rank that dies", async () => {
    await using engine = await Engine.open(model, { ...options, worker: apart(), maxRestarts: 1 });
    const long = engine.generate(promptIds, { maxTokens: 200, ignoreEnd: true });
    await long.next();
    // Rides to the other ranks on the choice of a token.
    expect((await answer(engine.generate(promptIds, { maxTokens: 4 }))).ids).toEqual(greedyIds.slice(0, 4));
    await engine.terminateRank(1);
    const failure = await answer(long).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RanksFailed);
    expect(failure).toMatchObject({ failedRanks: [1] });
    expect((await answer(engine.generate(promptIds, { maxTokens: 4 }))).ids).toEqual(greedyIds.slice(0, 4));
  });
});

test("ways of spreading a model are timed", async () => {
  const sized = [1, 2].map((world): SizedOptions => {
    const names = [0, 1].map(trialGroups).flatMap(({ all, dcp }) => [all, dcp]);
    return { world, dcp: world, backend: "wasm", capacity: 64, worker: ranksApart(program, [...names, "gpu"]) };
  });
  await using trial = await WorldTrial.open(model, sized, 64);
  const times = await trial.measure();
  expect(times.length).toBe(2);
  for (const { stepMs } of times) expect(stepMs).toBeGreaterThan(0);
});

/** Changes a number here and there in all weights of a folder, as training does. */
function train(folder: string): void {
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".safetensors"))) {
    const bytes = readFileSync(join(folder, name));
    const header = Number(bytes.readBigUInt64LE(0));
    for (let at = 8 + header; at < bytes.length; at += 1000) bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(join(folder, name), bytes);
  }
}

describe("a checkpoint that every process reads by itself", () => {
  const root = mkdtempSync(join(tmpdir(), "lockstep-apart-"));
  afterAll(() => rmSync(root, { recursive: true }));
  /** A folder that ranks of another machine find at the same path. */
  const write = (machine: string, form: CheckpointForm): string => {
    const folder = join(root, machine);
    writeRandomCheckpoint(folder, "LlamaForCausalLM", {}, form);
    return folder;
  };

  test.each([{}, { isSharded: true }])("is the same on all, or refused on all, %j", async (form) => {
    const name = form.isSharded === true ? "sharded" : "single";
    const folder = write(`${name}-first`, form);
    const same = write(`${name}-copy`, form);
    const trained = write(`${name}-trained`, form);
    train(trained);
    const shorter = write(`${name}-shorter`, { ...form, dtype: "f16" });
    await using world = await openWorld<typeof checkpoints>({
      size: 3,
      worker: ranksApart(new URL("./checkpoint-program.ts", import.meta.url)),
    });
    const digests = [folder, same, trained, shorter].map((path) => checkpointSample(modelFolder("test", path)));
    const [own, copied, changed, cast] = await Promise.all(digests);
    expect(copied).toBe(own ?? "");
    expect(new Set([own, changed, cast]).size).toBe(3);
    // Names of folders are told as they are on rank 0: the same path on every machine.
    const found = (last: string) => world.call("agree", [[folder, folder, last]]);
    expect(await found(folder)).toEqual(["the same", "the same", "the same"]);
    for (const other of [trained, shorter]) {
      for (const said of await found(other)) expect(said).toMatch(/^OptionsDisagree: .*the checkpoint in .*rank 2/s);
    }
  });

  test("is no checkpoint in the memory of one of them", () => {
    const files = { "config.json": new Uint8Array(2) };
    expect(() => checkReach("Generator.open", files, 2)).toThrow(
      /`model` must be the path of a folder, .* 2 processes/,
    );
    expect(checkReach("Generator.open", files, 1)).toBeUndefined();
    expect(checkReach("Generator.open", root, 2)).toBeUndefined();
  });
});
