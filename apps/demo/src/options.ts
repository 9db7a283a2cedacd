import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Determinism } from "@lockstep/dist-groups";
import { installedGpus } from "@lockstep/kernels";
import { isQuantisedKv, type KvDtype, type KvScaleSource, type WeightKind } from "@lockstep/language-model";
import { describeOptionsError } from "@lockstep/tensor";
import { UsageError } from "./errors.ts";
import { readKvBytes, readKvWeights } from "./kv-share-flags.ts";
import { readPrompts } from "./prompt-file.ts";

const BACKENDS = ["webgpu", "wasm", "reference", "auto"] as const;
const COMBINES = ["ag-rs", "a2a", "one-shot", "auto"] as const;
/** Names of the KV cache's types on the command line. */
const KV_DTYPES: Readonly<Record<string, KvDtype>> = {
  f32: "f32",
  f16: "f16",
  bf16: "bf16",
  fp8: "f8e4m3",
  int8: "i8",
};
const KV_SCALES: readonly KvScaleSource[] = ["per-token", "static"];
/** Names of how weights are kept on the command line. */
const WEIGHTS: Readonly<Record<string, WeightKind>> = { stored: "stored", int8: "i8" };
const DETERMINISMS: readonly Determinism[] = ["rank-order", "world-invariant"];
const KV_LAYOUTS = ["replicated", "sharded", "auto"] as const;
const MOST_RANKS = 64;
const DEFAULT_DRAFT = 4;

/** The command line, checked as far as it can be without the model. */
export interface DemoOptions {
  readonly world: number | "auto";
  /** Undefined: the fewest that leave no KV head stored twice. */
  readonly dcp: number | undefined;
  readonly kvHeads: (typeof KV_LAYOUTS)[number];
  /** At least one, none of them empty. */
  readonly prompts: readonly string[];
  readonly maxTokens: number;
  /** Tokens of a text to make room for; "max": as many as fit; undefined: as many as the texts grow to. */
  readonly maxContext: number | "max" | undefined;
  /** Print what each rank will hold, and stop. */
  readonly plan: boolean;
  readonly interleave: number;
  readonly blockSize: number;
  /** Undefined: by `kvBytes`, or equal shares. */
  readonly kvWeights: readonly number[] | undefined;
  /** Undefined: nobody says how much memory there is for the KV cache. */
  readonly kvBytes: readonly number[] | undefined;
  readonly backend: (typeof BACKENDS)[number];
  readonly combine: (typeof COMBINES)[number];
  readonly deterministic: Determinism;
  readonly weights: WeightKind;
  readonly kvDtype: KvDtype;
  /** Undefined unless the KV cache is quantised. */
  readonly kvScales: KvScaleSource | undefined;
  readonly prefillChunk: number | undefined;
  /** Most tokens drafted at a time; 0 without speculation. */
  readonly maxDraft: number;
  /** The step to explain, from 1. */
  readonly explain: number | "last" | undefined;
  readonly explainFile: string | undefined;
  readonly verify: boolean;
  readonly expectFile: string | undefined;
  readonly modelFolder: string;
  readonly softwareVulkan: boolean;
  /** GPUs to spread the ranks over; undefined: all. */
  readonly gpus: number | undefined;
  readonly sharedGpu: boolean;
  readonly help: boolean;
}

const DEFAULT_MODEL = fileURLToPath(new URL("../model", import.meta.url));

/** Parses and checks the command line. Throws {@link UsageError}. */
export function parseOptions(args: readonly string[]): DemoOptions {
  const values = parse(args);
  const world =
    values.world === undefined || values.world === "auto" ? "auto" : count("world", values.world, 1, MOST_RANKS);
  const dcp = values.dcp === undefined ? undefined : count("dcp", values.dcp, 1, MOST_RANKS);
  if (dcp !== undefined && world !== "auto" && world % dcp !== 0)
    throw new UsageError(`--dcp must divide --world ${world}, but is ${dcp}.`);
  const blockSize = count("block-size", values["block-size"], 16, 65536);
  const interleave = count("interleave", values.interleave, 1, 65536);
  if (blockSize % interleave !== 0) {
    throw new UsageError(`--interleave must divide --block-size ${blockSize}, but is ${interleave}.`);
  }
  const maxTokens = count("max-tokens", values["max-tokens"], 96, 1 << 20);
  const backend = choice("backend", values.backend, BACKENDS, "auto");
  const softwareVulkan = values["software-vulkan"] ?? false;
  if (softwareVulkan && (backend === "wasm" || backend === "reference")) {
    throw new UsageError(`--software-vulkan accepts an adapter for webgpu, but --backend is ${backend}.`);
  }
  const kvDtype = readKvDtype(values.kv, values["kv-dtype"]);
  const weights = WEIGHTS[choice("weights", values.weights, Object.keys(WEIGHTS), "stored")] ?? "stored";
  if (values.expect !== undefined) {
    if (weights !== "stored") {
      throw new UsageError(`--expect compares with weights as stored, but --weights is ${values.weights}.`);
    }
    if (kvDtype !== "f32") {
      const name = values.kv === undefined ? "kv-dtype" : "kv";
      throw new UsageError(`--expect compares with KV in f32, but --${name} is ${values[name]}.`);
    }
    const own = [
      "prompt",
      "prompt-file",
      "max-tokens",
      "max-context",
      "plan",
      "verify",
      "explain",
      "explain-json",
    ] as const;
    for (const name of own) {
      if (values[name] !== undefined) throw new UsageError(`--expect takes its prompts from a file: drop --${name}.`);
    }
  }
  return {
    world,
    dcp,
    kvHeads: choice("kv-heads", values["kv-heads"], KV_LAYOUTS, "auto"),
    prompts: readAllPrompts(values.prompt, values["prompt-file"]),
    maxTokens,
    maxContext: readMaxContext(values["max-context"]),
    plan: values.plan ?? false,
    interleave,
    blockSize,
    kvWeights: readKvWeights(values["kv-weights"]),
    kvBytes: readKvBytes(values["kv-bytes"]),
    backend,
    combine: choice("combine", values.combine, COMBINES, "auto"),
    deterministic: choice("deterministic", values.deterministic, DETERMINISMS, "rank-order"),
    weights,
    kvDtype,
    kvScales: readKvScales(values["kv-scales"], kvDtype),
    prefillChunk:
      values["prefill-chunk"] === undefined ? undefined : count("prefill-chunk", values["prefill-chunk"], 1, 65536),
    maxDraft: readMaxDraft(values.speculative ?? false, values.draft, maxTokens),
    explain: readExplain(values.explain, values["explain-json"]),
    explainFile: values["explain-json"],
    verify: values.verify ?? false,
    expectFile: values.expect,
    modelFolder: values.model ?? DEFAULT_MODEL,
    softwareVulkan,
    ...readGpus(values.gpus, values["shared-gpu"] ?? false, backend, softwareVulkan),
    help: values.help ?? false,
  };
}

/** The name that the command line has for a type of KV cache. */
export function kvName(dtype: KvDtype): string {
  return Object.keys(KV_DTYPES).find((name) => KV_DTYPES[name] === dtype) ?? dtype;
}

function readKvDtype(kv: string | undefined, kvDtype: string | undefined): KvDtype {
  if (kv !== undefined && kvDtype !== undefined && kv !== kvDtype) {
    throw new UsageError(`--kv and --kv-dtype are the same option, but are ${kv} and ${kvDtype}.`);
  }
  const name = kv === undefined ? "kv-dtype" : "kv";
  return KV_DTYPES[choice(name, kv ?? kvDtype, Object.keys(KV_DTYPES), "f32")] ?? "f32";
}

function readKvScales(text: string | undefined, kvDtype: KvDtype): KvScaleSource | undefined {
  if (isQuantisedKv(kvDtype)) return choice("kv-scales", text, KV_SCALES, "per-token");
  if (text === undefined) return undefined;
  throw new UsageError(`--kv-scales is for --kv fp8 and int8, but --kv is ${kvName(kvDtype)}.`);
}

function readAllPrompts(given: readonly string[] | undefined, file: string | undefined): readonly string[] {
  const prompts = [...(given ?? []), ...(file === undefined ? [] : readPrompts(file))];
  if (prompts.includes("")) throw new UsageError("--prompt must not be empty.");
  return prompts.length === 0 ? ["Psa23:1 The LORD is"] : prompts;
}

function readMaxDraft(isSpeculative: boolean, text: string | undefined, maxTokens: number): number {
  const draft = count("draft", text, DEFAULT_DRAFT, 64);
  if (!isSpeculative) {
    if (text !== undefined) throw new UsageError("--draft says how much --speculative drafts, but that is left out.");
    return 0;
  }
  if (text !== undefined && draft >= maxTokens) {
    throw new UsageError(
      `--draft must be below --max-tokens ${maxTokens}, since a text has no blocks for more, but is ${draft}.`,
    );
  }
  return Math.min(draft, maxTokens - 1);
}

function readGpus(
  text: string | undefined,
  sharedGpu: boolean,
  backend: DemoOptions["backend"],
  softwareVulkan: boolean,
): { gpus: number | undefined; sharedGpu: boolean } {
  const name = text === undefined ? "shared-gpu" : "gpus";
  const isAsked = text !== undefined || sharedGpu;
  if (isAsked && (backend === "wasm" || backend === "reference")) {
    throw new UsageError(`--${name} is for GPUs, but --backend is ${backend}.`);
  }
  const gpus = text === undefined ? undefined : count("gpus", text, 1, MOST_RANKS);
  const installed = Math.max(1, installedGpus().length);
  if (gpus !== undefined && gpus > installed && !softwareVulkan) {
    throw new UsageError(`--gpus must be at most ${installed}, the GPUs that were found, but is ${gpus}.`);
  }
  return { gpus, sharedGpu };
}

function readMaxContext(text: string | undefined): number | "max" | undefined {
  if (text === undefined || text === "max") return text;
  return count("max-context", text, 1, 1 << 28);
}

function readExplain(text: string | undefined, file: string | undefined): number | "last" | undefined {
  if (text === undefined) return file === undefined ? undefined : "last";
  return text === "last" ? text : count("explain", text, 1, 1 << 24);
}

/** `--explain` alone asks for the last step. */
function withStep(args: readonly string[]): string[] {
  return args.map((arg, index) =>
    arg === "--explain" && !/^(\d+|last)$/.test(args[index + 1] ?? "") ? "--explain=last" : arg,
  );
}

const OPTIONS = {
  world: { type: "string" },
  dcp: { type: "string" },
  "kv-heads": { type: "string" },
  prompt: { type: "string", multiple: true },
  "prompt-file": { type: "string" },
  "max-tokens": { type: "string" },
  "max-context": { type: "string" },
  plan: { type: "boolean" },
  interleave: { type: "string" },
  "block-size": { type: "string" },
  "kv-weights": { type: "string" },
  "kv-bytes": { type: "string" },
  backend: { type: "string" },
  combine: { type: "string" },
  deterministic: { type: "string" },
  weights: { type: "string" },
  kv: { type: "string" },
  "kv-dtype": { type: "string" },
  "kv-scales": { type: "string" },
  "prefill-chunk": { type: "string" },
  speculative: { type: "boolean" },
  draft: { type: "string" },
  explain: { type: "string" },
  "explain-json": { type: "string" },
  verify: { type: "boolean" },
  expect: { type: "string" },
  model: { type: "string" },
  "software-vulkan": { type: "boolean" },
  gpus: { type: "string" },
  "shared-gpu": { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: withStep(args),
      strict: true,
      allowPositionals: false,
      options: OPTIONS,
    }).values;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const [, text] = /^Unexpected argument '(.*?)'/s.exec(message) ?? [];
    if (text !== undefined) {
      const shown = JSON.stringify(text.slice(0, 40));
      throw new UsageError(`Options were expected, but ${shown} came. Give a text with --prompt ${shown}. See --help.`);
    }
    throw new UsageError(`${describeOptionsError(error, OPTIONS)}. See --help.`);
  }
}

function count(name: string, text: string | undefined, fallback: number, most: number): number {
  if (text === undefined) return fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > most) {
    const orAuto = name === "world" ? ", or auto," : ",";
    throw new UsageError(`--${name} must be a whole number from 1 to ${most}${orAuto} but is ${text}.`);
  }
  return value;
}

function choice<T extends string>(name: string, text: string | undefined, known: readonly T[], fallback: T): T {
  if (text === undefined) return fallback;
  const found = known.find((value) => value === text);
  if (found === undefined) throw new UsageError(`--${name} must be one of ${known.join(", ")}, but is ${text}.`);
  return found;
}
