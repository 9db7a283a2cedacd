// What the command does with its prompts: generates, prints, explains, verifies.
import { closeSync, openSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  chooseWorld,
  Generator,
  type GeneratorOptions,
  type Model,
  ModelError,
  type SizedOptions,
  spreadOptions,
  type WorldChoice,
} from "@lockstep/language-model";
import { UsageError } from "./errors.ts";
import { firstDifference } from "./expectations.ts";
import { formatExplanation } from "./explanation-text.ts";
import { type DemoOptions, kvName } from "./options.ts";
import { tellPlan } from "./plan.ts";
import type { Progress } from "./progress.ts";
import { formatRanks } from "./report.ts";
import { TextPrinter } from "./text-printer.ts";

/** Generates from the prompts, streams the text, prints the closing table, explains and verifies if asked to. */
export async function tell(model: Model, options: DemoOptions, progress: Progress): Promise<number> {
  const prompts = options.prompts.map((prompt) => model.tokenizer.encode(prompt));
  expectKnown(model, prompts.flat());
  const empty = prompts.findIndex((prompt) => prompt.length === 0);
  if (empty !== -1) throw new UsageError(`--prompt ${JSON.stringify(options.prompts[empty])} has no tokens.`);
  const { maxTokens, explain, explainFile } = options;
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  if (typeof explain === "number" && explain > promptTokens + maxTokens) {
    throw new UsageError(
      `--explain ${explain} is beyond the steps that ${promptTokens} prompt tokens and --max-tokens ${maxTokens} take.`,
    );
  }
  const wanted = { ...generatorOptions(options), ...cacheOptions(model, options, prompts), texts: prompts.length };
  if (!options.plan && explainFile !== undefined) checkWritable(explainFile);
  // What is refused is told in one line.
  if (!options.plan) Generator.check(model, wanted);
  if (options.verify) Generator.check(model, aloneOptions(model, options, prompts));
  if (options.plan) return tellPlan(model, wanted);
  const { spread, choice } = await sized(model, wanted, progress);
  const started = performance.now();
  const loading = `loading the model on ${spread.world} ${spread.world === 1 ? "rank" : "ranks"}`;
  progress.phase(loading);
  const onLoad = (bytes: number, totalBytes: number): void =>
    progress.update(`${loading}: ${Math.floor((100 * bytes) / totalBytes)} %`);
  const tokens: number[][] = prompts.map(() => []);
  {
    await using generator = await Generator.open(model, { ...spread, onLoad });
    const loaded = performance.now();
    let first = loaded;
    let before = 0;
    let count = 0;
    const onPrefill = (done: number): void => {
      if (count === 0) progress.update(`prefilling ${done} of ${promptTokens} tokens`);
      if (done < promptTokens) return;
      first = performance.now();
      before = count;
    };
    const printer = new TextPrinter(model.tokenizer, options.prompts, prompts);
    const { endTokens } = model.config;
    const explained = explain === undefined ? {} : { explain };
    for await (const { text, token } of generator.generateAll(prompts, {
      maxTokens,
      endTokens,
      onPrefill,
      ...explained,
    })) {
      if (count++ === 0) progress.clear();
      tokens[text]?.push(token);
      printer.push(text, token);
    }
    const ended = performance.now();
    progress.clear();
    printer.end();

    const ranks = await generator.metrics();
    const { sizes } = generator;
    const device = `${ranks[0]?.backend} (${ranks[0]?.device})`;
    const shares = generator.kvWeights.every((weight) => weight === 1) ? "" : ` by ${generator.kvWeights.join(", ")}`;
    const layout = `TP${sizes.world} DCP${sizes.dcp}${shares}, KV heads ${sizes.kvLayout}`;
    const scales = options.kvScales === "static" ? " with static scales" : "";
    const kv = options.kvDtype === "f32" ? "" : `, KV ${kvName(options.kvDtype)}${scales}`;
    const weights = options.weights === "i8" ? ", weights int8" : "";
    const combine = `combine ${ranks[0]?.attention.combine}`;
    const bits = options.deterministic === "world-invariant" ? ", world-invariant" : "";
    process.stdout.write(`${layout}, ${device}, ${combine}${bits}${weights}${kv}\n${formatRanks(ranks)}\n`);
    const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
    const rate = (((count - before) * 1000) / (ended - first)).toFixed(1);
    const of = prompts.length === 1 ? "" : ` of ${prompts.length} texts`;
    process.stdout.write(
      `loaded in ${seconds(loaded - started)}, ${promptTokens} prompt tokens${of} in ${seconds(first - loaded)}, ` +
        `${count} generated${count > before ? `, ${rate} tokens a second` : ""}\n`,
    );
    if (choice !== undefined) process.stdout.write(`world auto: ${choice.reason}\n`);
    const { drafted = 0, accepted = 0 } = ranks[0] ?? {};
    if (options.maxDraft > 0) process.stdout.write(`speculation: ${accepted} of ${drafted} drafted tokens accepted\n`);
    if (explain !== undefined) await tellStep(generator, explain, explainFile);
  }
  return options.verify ? verify(model, options, prompts, tokens, progress) : 0;
}

/** Options with the number of ranks, which is chosen unless it is given. */
async function sized(
  model: Model,
  options: GeneratorOptions,
  progress: Progress,
): Promise<{ readonly spread: SizedOptions; readonly choice: WorldChoice | undefined }> {
  const { world } = options;
  if (world !== "auto") return { spread: { ...options, world }, choice: undefined };
  progress.phase("choosing the number of ranks");
  const choice = await chooseWorld(model, options);
  return { spread: spreadOptions(options, choice.sizes), choice };
}

/** Throws {@link ModelError} when the tokenizer gives a text tokens that the model has no embeddings of. */
function expectKnown({ folder, config }: Model, ids: readonly number[]): void {
  const unknown = ids.find((id) => id >= config.vocabularySize);
  if (unknown === undefined) return;
  throw new ModelError(`${folder}/tokenizer.json`, `token ids below vocab_size ${config.vocabularySize}`, `${unknown}`);
}

/** Prints the explanation of a step, and writes it to a file if asked to. */
async function tellStep(generator: Generator, step: number | "last", file: string | undefined): Promise<void> {
  const explanation = await generator.explain();
  if (explanation === undefined) {
    const [rank] = await generator.metrics();
    throw new UsageError(`--explain ${step} is beyond the ${rank?.attention.steps} steps that the texts took.`);
  }
  process.stdout.write(`\n${formatExplanation(explanation)}\n`);
  if (file !== undefined) writeFileSync(file, `${JSON.stringify(explanation)}\n`);
}

/**
 * Generates the same texts on one rank, whose KV cache is whole, one after another and without drafts, and compares.
 */
async function verify(
  model: Model,
  options: DemoOptions,
  prompts: readonly (readonly number[])[],
  tokens: readonly (readonly number[])[],
  progress: Progress,
): Promise<number> {
  progress.phase("verifying on one rank");
  await using generator = await Generator.open(model, aloneOptions(model, options, prompts));
  const { maxTokens } = options;
  const verdicts: string[] = [];
  let agree = true;
  for (const [text, prompt] of prompts.entries()) {
    const found: number[] = [];
    for await (const token of generator.generate(prompt, { maxTokens, endTokens: model.config.endTokens })) {
      found.push(token);
    }
    const problem = firstDifference("token", found, tokens[text] ?? []);
    agree &&= problem === undefined;
    const verdict =
      problem === undefined ? `one rank generates the same ${found.length} tokens` : `one rank differs${problem}`;
    verdicts.push(`verify: ${prompts.length === 1 ? "" : `[${text + 1}] `}${verdict}\n`);
  }
  progress.clear();
  process.stdout.write(verdicts.join(""));
  return agree ? 0 : 1;
}

/** What the options say about how a model is spread and run, whatever the texts. */
export function generatorOptions(options: DemoOptions): Omit<GeneratorOptions, "capacity"> {
  const { world, dcp, kvHeads, backend, softwareVulkan, combine, kvDtype, blockSize, interleave, prefillChunk } =
    options;
  const { gpus, sharedGpu, maxDraft, kvScales, weights, deterministic, kvWeights, kvBytes } = options;
  const spread = { world, kvHeads, backend, softwareVulkan, sharedGpu, combine, kvDtype, blockSize, interleave };
  return {
    ...spread,
    weights,
    deterministic,
    ...(dcp === undefined ? {} : { dcp }),
    ...(kvWeights === undefined ? {} : { kvWeights }),
    ...(kvBytes === undefined ? {} : { kvBytes }),
    maxDraft,
    ...(kvScales === undefined ? {} : { kvScales }),
    ...(gpus === undefined ? {} : { gpus }),
    ...(prefillChunk === undefined ? {} : { prefillChunk }),
  };
}

/** The same on one rank, one text at a time. */
function aloneOptions(model: Model, options: DemoOptions, prompts: readonly (readonly number[])[]): GeneratorOptions {
  const { kvWeights: _, kvBytes: __, ...spread } = generatorOptions(options);
  const alone = { ...spread, world: 1, dcp: 1, kvHeads: "auto", maxDraft: 0 } as const;
  return { ...alone, ...cacheOptions(model, options, prompts) };
}

/**
 * Room for the longest text, and the sample that decides static scales of a quantised cache: the prompts, one after
 * another.
 */
function cacheOptions({ config }: Model, options: DemoOptions, prompts: readonly (readonly number[])[]) {
  const { maxContext } = options;
  const needed = Math.max(...prompts.map((prompt) => prompt.length)) + options.maxTokens;
  if (typeof maxContext === "number" && maxContext < needed) {
    throw new UsageError(`--max-context must be at least ${needed}, which the texts grow to, but is ${maxContext}.`);
  }
  if (typeof maxContext === "number" && maxContext > config.maxPositions) {
    const most = `at most ${config.maxPositions}, which the model was made for`;
    throw new UsageError(`--max-context must be ${most}, but is ${maxContext}.`);
  }
  const capacity = maxContext === "max" ? {} : { capacity: maxContext ?? needed };
  return { ...capacity, ...(options.kvScales === "static" ? { calibration: prompts.flat() } : {}) };
}

/** Throws {@link UsageError} unless a file can be written to; leaves what it holds. */
function checkWritable(path: string): void {
  try {
    closeSync(openSync(path, "a"));
  } catch {
    throw new UsageError(`--explain-json must name a file that can be written to, but is ${path}.`);
  }
}
