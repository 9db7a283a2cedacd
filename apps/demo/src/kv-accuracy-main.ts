// `bun run kv-accuracy`: what KV in 16 and 8 bits costs a model, over the prompts of a file of greedy continuations.
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openModel } from "@lockstep/language-model";
import { describeOptionsError } from "@lockstep/tensor";
import { explainFailure } from "./command-errors.ts";
import { UsageError } from "./errors.ts";
import { readExpectations } from "./expectations.ts";
import { type KvAccuracy, measureKv } from "./kv-accuracy.ts";

const HELP = `Compares KV caches in 16 and 8 bits with one in f32, on wasm.

usage: bun run kv-accuracy [options]

  --model DIR      folder of a model in Hugging Face format (default: the one that comes with the demo)
  --expect FILE    JSON list of { prompt, prompt_ids, greedy_ids }: the prompts, and how many tokens follow each
                   (default: those of the shipped model)
  --max-tokens N   most tokens that follow a prompt (default: all)
  --max-prompt N   leave out prompts of more tokens (default: none)
  --world N        ranks, which share the KV cache (default 2)

All kinds follow the tokens that KV in f32 chooses. log p: mean absolute error of their log-probabilities, in nats; KL:
mean divergence of the next token's distribution, in nats; kept: texts of which every token is kept when they are
continued greedily, and how many tokens each keeps. At the first that changes: by how much f32 prefers its best token to
the second, and the error of the difference between the two tokens' log-probabilities.
`;

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

function parse(args: readonly string[]) {
  const string = { type: "string" } as const;
  const known = { model: string, expect: string, "max-tokens": string, "max-prompt": string, world: string };
  const options = { ...known, help: { type: "boolean" } } as const;
  try {
    return parseArgs({ args: [...args], strict: true, options }).values;
  } catch (error) {
    throw new UsageError(`${describeOptionsError(error, options)}. See --help.`);
  }
}

function count(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value >= 1) return value;
  throw new UsageError(`--${name} must be a positive whole number, but is ${text}.`);
}

const COLUMNS = [16, 11, 11, 6] as const;

function line(...cells: readonly [string, string, string, string, string]): string {
  return cells.map((cell, at) => (at === 0 ? cell.padEnd(COLUMNS[0]) : cell.padStart(COLUMNS[at] ?? 0))).join("  ");
}

function rowOf({ kind, meanError, divergence, texts }: KvAccuracy): string {
  const whole = texts.filter(({ change }) => change === undefined).length;
  const each = texts.map(({ kept, tokens, change }) =>
    change === undefined ? `${tokens}` : `${kept} (gap ${change.gap.toFixed(4)}, error ${change.error.toFixed(4)})`,
  );
  const kept = `${whole}/${texts.length}`;
  return line(kind.name, meanError.toExponential(2), divergence.toExponential(2), kept, each.join(", "));
}

async function main(args: readonly string[]): Promise<void> {
  const values = parse(args);
  if (values.help === true) {
    process.stdout.write(HELP);
    return;
  }
  if (values.model !== undefined && values.expect === undefined) {
    throw new UsageError("--model has no prompts of its own: give --expect, too.");
  }
  const most = count("max-tokens", values["max-tokens"], 2 ** 31 - 1);
  const longest = count("max-prompt", values["max-prompt"], 2 ** 31 - 1);
  const world = count("world", values.world, 2);
  const model = openModel(values.model ?? own("../model"));
  for (const warning of model.warnings) process.stderr.write(`kv-accuracy: ${warning}\n`);
  const file = values.expect ?? own("../goldens/greedy_public.json");
  const entries = readExpectations(file, model.config.vocabularySize);
  const short = entries.filter(({ promptIds }) => promptIds.length <= longest);
  if (short.length === 0) throw new UsageError(`--max-prompt ${longest} leaves no prompt.`);
  process.stdout.write(`${line("KV", "log p", "KL", "kept", "tokens kept of each text")}\n`);
  const spread = { world, backend: "wasm" } as const;
  for await (const accuracy of measureKv(model, spread, short, most)) process.stdout.write(`${rowOf(accuracy)}\n`);
}

// Whoever reads the output may stop early, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  await main(process.argv.slice(2));
} catch (error) {
  const { line: text, code } = explainFailure("kv-accuracy", error);
  process.stderr.write(`${text}\n`);
  process.exitCode = code;
}
