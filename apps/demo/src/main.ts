// `bun run demo`: generates text with a model whose KV cache is sharded over ranks.
import process from "node:process";
import { LockstepError } from "@lockstep/tensor";
import { UsageError } from "./errors.ts";
import { runExpectations } from "./expect.ts";
import { firstDifference, readExpectations } from "./expectations.ts";
import { Generator, type GeneratorOptions } from "./generator.ts";
import { type Model, openModel } from "./model.ts";
import { type DemoOptions, HELP, parseOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { formatRanks } from "./report.ts";
import { StreamDecoder } from "./tokenizer.ts";

/** Errors of the command line, the model folder or the machine that the user can act on: exit code 2. */
const USER_ERRORS = ["UsageError", "ModelError", "SafetensorsError", "BackendUnavailable"];

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const progress = new Progress();
  const model = openModel(options.modelFolder);
  if (options.expectFile !== undefined) {
    const expectations = readExpectations(options.expectFile, model.config.vocabularySize);
    return (await runExpectations(model, generatorOptions(options), expectations, progress)) ? 0 : 1;
  }
  return tell(model, options, progress);
}

/** Generates from the prompt, streams the text, prints the closing table, and verifies if asked to. */
async function tell(model: Model, options: DemoOptions, progress: Progress): Promise<number> {
  const prompt = model.tokenizer.encode(options.prompt);
  if (prompt.length === 0) throw new UsageError("--prompt has no tokens.");
  const capacity = prompt.length + options.maxTokens;
  const started = performance.now();
  progress.phase(`loading the model on ${options.world} ${options.world === 1 ? "rank" : "ranks"}`);
  const tokens: number[] = [];
  {
    await using generator = await Generator.open(model, { ...generatorOptions(options), capacity });
    const loaded = performance.now();
    const decoder = new StreamDecoder(model.tokenizer, prompt);
    const onPrefill = (done: number): void => progress.update(`prefilling ${done} of ${prompt.length} tokens`);
    const { maxTokens } = options;
    let first = loaded;
    for await (const token of generator.generate(prompt, { maxTokens, endTokens: model.config.endTokens, onPrefill })) {
      if (tokens.length === 0) {
        first = performance.now();
        progress.clear();
        process.stdout.write(options.prompt);
      }
      tokens.push(token);
      process.stdout.write(decoder.push(token));
    }
    const ended = performance.now();
    process.stdout.write(`${decoder.end()}\n\n`);

    const ranks = await generator.metrics();
    const { sizes } = generator;
    const device = `${ranks[0]?.backend} (${ranks[0]?.device})`;
    const layout = `TP${sizes.world} DCP${sizes.dcp}, KV heads ${sizes.kvLayout}`;
    process.stdout.write(`${layout}, ${device}, combine ${ranks[0]?.attention.combine}\n${formatRanks(ranks)}\n`);
    const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
    const rate = (((tokens.length - 1) * 1000) / (ended - first)).toFixed(1);
    process.stdout.write(
      `loaded in ${seconds(loaded - started)}, ${prompt.length} prompt tokens in ${seconds(first - loaded)}, ` +
        `${tokens.length} generated${tokens.length > 1 ? `, ${rate} tokens a second` : ""}\n`,
    );
  }
  return options.verify ? verify(model, options, prompt, tokens, progress) : 0;
}

/** Generates the same text on one rank, whose KV cache is whole, and compares. */
async function verify(
  model: Model,
  options: DemoOptions,
  prompt: readonly number[],
  tokens: readonly number[],
  progress: Progress,
): Promise<number> {
  progress.phase("verifying on one rank");
  const capacity = prompt.length + options.maxTokens;
  const alone = { ...generatorOptions(options), world: 1, dcp: 1, kvHeads: "auto", capacity } as const;
  await using generator = await Generator.open(model, alone);
  const found: number[] = [];
  const { maxTokens } = options;
  for await (const token of generator.generate(prompt, { maxTokens, endTokens: model.config.endTokens })) {
    found.push(token);
  }
  progress.clear();
  const problem = firstDifference("token", found, tokens);
  const verdict =
    problem === undefined ? `one rank generates the same ${found.length} tokens` : `one rank differs${problem}`;
  process.stdout.write(`verify: ${verdict}\n`);
  return problem === undefined ? 0 : 1;
}

function generatorOptions(options: DemoOptions): Omit<GeneratorOptions, "capacity"> {
  const { world, dcp, kvHeads, backend, softwareVulkan, combine, kvDtype, blockSize, interleave } = options;
  return { world, dcp, kvHeads, backend, softwareVulkan, combine, kvDtype, blockSize, interleave };
}

/** One line for people, and the exit code. */
function explain(error: unknown): { line: string; code: number } {
  const culprit = userError(error);
  const shown = culprit ?? error;
  const message = (shown instanceof Error ? shown.message : String(shown)).replace(/\s*\n\s*/g, " ");
  return { line: `demo: ${message}`, code: culprit === undefined ? 1 : 2 };
}

/** The error itself or the one behind it (a rank's, when a world could not start) that the user can act on. */
function userError(error: unknown): LockstepError | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof LockstepError && USER_ERRORS.includes(error._tag)) return error;
  return userError(error.cause);
}

// Whoever reads the output may stop early, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const { line, code } = explain(error);
  process.stderr.write(`${line}\n`);
  process.exitCode = code;
}
