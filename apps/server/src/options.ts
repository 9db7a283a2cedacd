import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { EngineOptions, KvDtype, WeightKind } from "@lockstep/language-model";
import { describeOptionsError } from "@lockstep/tensor";
import { DEFAULT_LIMITS, type Limits, MOST_RANKS } from "./limits.ts";
import { readKvBytes, readKvWeights } from "./kv-share-flags.ts";
import { isLoopback } from "./listen/is-loopback.ts";
import { UsageError } from "./usage-error.ts";

const BACKENDS = ["webgpu", "wasm", "reference", "auto"] as const;
/** Names of the KV cache's types on the command line. */
const KV_DTYPES: Readonly<Record<string, KvDtype>> = {
  f32: "f32",
  f16: "f16",
  bf16: "bf16",
  fp8: "f8e4m3",
  int8: "i8",
};
/** Names of how weights are kept on the command line. */
const WEIGHTS: Readonly<Record<string, WeightKind>> = { stored: "stored", int8: "i8" };
const DETERMINISMS = ["rank-order", "world-invariant"] as const;

/** The command line, checked as far as it can be without the model. */
export interface ServerOptions {
  readonly modelFolder: string;
  /** As /v1/models tells it. */
  readonly modelName: string;
  readonly engine: EngineOptions;
  readonly host: string;
  readonly port: number;
  readonly token: string | undefined;
  readonly limits: Partial<Limits>;
  readonly drainSeconds: number;
  /** Whether those who may ask may give the model other ranks. */
  readonly resize: boolean;
  readonly page: boolean;
  /** Whose texts the page shows. */
  readonly pageTexts: "all" | "own";
  /** Seconds that a connection may say nothing for, in Bun. */
  readonly idleSeconds: number;
  readonly help: boolean;
}

const DEFAULT_MODEL = fileURLToPath(new URL("../../demo/model", import.meta.url));
const DEFAULT_MODEL_NAME = "demo";

export const HELP = `Serves a language model over HTTP in OpenAI's form, its KV cache sharded over ranks.

usage: bun run serve [options]

the model
  --model DIR         folder of a Llama, Mistral, Qwen2 or Qwen3 model in Hugging Face format (default: the demo's)
  --model-name NAME   what requests call it (default: the folder's name; demo for the demo's)
  --world N           ranks, or auto: as many, up to the cores, as are fastest here (default auto)
  --dcp N             ranks that split the tokens of a KV cache among them; divides --world (default: the fewest that
                      leave no KV head stored twice)
  --kv-weights W,W    shares of the KV cache of these ranks, as 3,1 (default: by --kv-bytes, or equal ones)
  --kv-bytes S,S      memory that each of these ranks has for it, as 3GiB,1GiB: shares follow, and the cache fills it
                      (default: as much as is needed)
  --backend B         webgpu, wasm, reference or auto (default: webgpu on a hardware GPU, else wasm)
  --software-vulkan   accept a software adapter for webgpu (for tests: slow)
  --deterministic D   what the bits of logits may depend on besides the text: rank-order: on how the model is spread over
                      ranks (default); world-invariant: not on that either, so that any number gives the same
  --weights W         stored: as the checkpoint has them (default); int8: with a scale for every 32 elements of a row
  --kv T              f32, f16, bf16, fp8 (e4m3) or int8: type of the cached keys and values (default f32)
  --max-context N     most tokens of one text, prompt included (default: as many as the model was made for, or as fit)
  --kv-tokens N       tokens that the KV cache holds over all texts (default: 8 of the longest, if they fit)
  --max-running N     most texts that are computed at once (default 64)
  --max-waiting N     most texts that wait for their turn; more are refused with 429 (default 256)
  --no-prefix-cache   texts that begin alike do not share what was computed

the server
  --host ADDRESS      address to listen at (default 127.0.0.1: this machine alone)
  --port N            port, or 0 for any that is free (default 8000)
  --token TOKEN       wanted as \`Authorization: Bearer TOKEN\` by all but /health and the page's files (default: the
                      environment's LOCKSTEP_TOKEN, which other users of the machine cannot see; else none)
  --resize            POST /admin/resize gives the model other ranks, or another layout, in the middle of texts; where
                      others than this machine may ask it takes a token (default: there is no such path)
  --no-page           no page at /, which shows texts as they are generated
  --page-texts WHOSE  all: the page shows what is generated for anybody; own: what the page itself asked for (default:
                      all where only this machine or those who have the token may look, else own)
  --drain-seconds N   how long requests may take to end after SIGTERM (default 30)
  --idle-seconds N    how long a connection may say nothing before its request is complete, and between requests, up to
                      255 (default 30; in Bun: Deno has no such limit)
  --max-body-bytes N  most bytes of a request (default ${DEFAULT_LIMITS.bodyBytes})
  --max-choices N     most texts of one request: prompts times n (default ${DEFAULT_LIMITS.choices})
  --max-requests N    most requests that generate at once, streams included; more are refused with 429 (default
                      ${DEFAULT_LIMITS.requests})
  --help              show this

exit codes: 0 ended when told to, 1 a failure, or requests were cut short, 2 bad options or an unusable model
`;

/** Parses and checks the command line. @throws UsageError */
export function parseOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ServerOptions {
  const values = parse(args);
  const given = (name: keyof typeof values, most: number, least = 1): number | undefined => {
    const value = values[name];
    return typeof value === "string" ? count(name, value, least, most) : undefined;
  };
  const { world } = values;
  const ranks = world === undefined || world === "auto" ? "auto" : count("world", world, 1, MOST_RANKS, ", or auto");
  const dcp = given("dcp", MOST_RANKS);
  if (dcp !== undefined && ranks !== "auto" && ranks % dcp !== 0) {
    throw new UsageError(`--dcp must divide --world ${ranks}, but is ${dcp}.`);
  }
  const backend = choice("backend", values.backend, BACKENDS, "auto");
  const softwareVulkan = values["software-vulkan"] ?? false;
  if (softwareVulkan && (backend === "wasm" || backend === "reference")) {
    throw new UsageError(`--software-vulkan accepts an adapter for webgpu, but --backend is ${backend}.`);
  }
  const engine: EngineOptions = {
    world: ranks,
    ...defined({ dcp, kvWeights: readKvWeights(values["kv-weights"]), kvBytes: readKvBytes(values["kv-bytes"]) }),
    backend,
    softwareVulkan,
    deterministic: choice("deterministic", values.deterministic, DETERMINISMS, "rank-order"),
    weights: WEIGHTS[choice("weights", values.weights, Object.keys(WEIGHTS), "stored")] ?? "stored",
    kvDtype: KV_DTYPES[choice("kv", values.kv, Object.keys(KV_DTYPES), "f32")] ?? "f32",
    ...defined({
      maxContext: given("max-context", 1 << 28, 2),
      kvTokens: given("kv-tokens", 1 << 30),
      maxRunning: given("max-running", 1024),
      maxWaiting: given("max-waiting", 1 << 20, 0),
    }),
    prefixCache: !(values["no-prefix-cache"] ?? false),
  };
  const modelFolder = values.model ?? DEFAULT_MODEL;
  const host = values.host ?? "127.0.0.1";
  const token = readToken(values.token, environment);
  const resize = values.resize ?? false;
  if (resize && token === undefined && !isLoopback(host)) {
    throw new UsageError(`--resize takes a --token where others than this machine may ask, as with --host ${host}.`);
  }
  const pageTexts = token !== undefined || isLoopback(host) ? "all" : "own";
  return {
    modelFolder,
    modelName: readName(values["model-name"], values.model),
    engine,
    host,
    port: given("port", 65535, 0) ?? 8000,
    token,
    limits: defined({
      bodyBytes: given("max-body-bytes", 1 << 30),
      choices: given("max-choices", 4096),
      requests: given("max-requests", 1 << 20),
    }),
    resize,
    drainSeconds: given("drain-seconds", 86_400, 0) ?? 30,
    page: !(values["no-page"] ?? false),
    pageTexts: choice("page-texts", values["page-texts"], ["all", "own"], pageTexts),
    idleSeconds: given("idle-seconds", 255) ?? 30,
    help: values.help ?? false,
  };
}

/** Those entries that are not undefined. */
function defined<T extends object>(entries: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const kept: { [K in keyof T]?: Exclude<T[K], undefined> } = {};
  for (const name in entries) {
    const value = entries[name];
    if (isDefined(value)) kept[name] = value;
  }
  return kept;
}

function isDefined<T>(value: T): value is Exclude<T, undefined> {
  return value !== undefined;
}

function readName(name: string | undefined, folder: string | undefined): string {
  if (name === "") throw new UsageError("--model-name must not be empty.");
  if (name !== undefined) return name;
  if (folder === undefined) return DEFAULT_MODEL_NAME;
  return folder.split(/[/\\]/).findLast((part) => part !== "" && part !== ".") ?? "model";
}

function readToken(
  given: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const name = given === undefined ? "LOCKSTEP_TOKEN" : "--token";
  const token = given ?? environment.LOCKSTEP_TOKEN;
  if (token === undefined || /^[\x21-\x7e]{1,1000}$/.test(token)) return token;
  throw new UsageError(`${name} must be of 1 to 1000 visible ASCII characters, without spaces.`);
}

const OPTIONS = {
  model: { type: "string" },
  "model-name": { type: "string" },
  world: { type: "string" },
  dcp: { type: "string" },
  backend: { type: "string" },
  "software-vulkan": { type: "boolean" },
  deterministic: { type: "string" },
  weights: { type: "string" },
  kv: { type: "string" },
  "max-context": { type: "string" },
  "kv-tokens": { type: "string" },
  "kv-weights": { type: "string" },
  "kv-bytes": { type: "string" },
  "max-running": { type: "string" },
  "max-waiting": { type: "string" },
  "no-prefix-cache": { type: "boolean" },
  host: { type: "string" },
  port: { type: "string" },
  token: { type: "string" },
  resize: { type: "boolean" },
  "no-page": { type: "boolean" },
  "page-texts": { type: "string" },
  "drain-seconds": { type: "string" },
  "idle-seconds": { type: "string" },
  "max-body-bytes": { type: "string" },
  "max-choices": { type: "string" },
  "max-requests": { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: OPTIONS,
    }).values;
  } catch (error) {
    throw new UsageError(`${describeOptionsError(error, OPTIONS)}. See --help.`);
  }
}

function count(name: string, text: string, least: number, most: number, or = ""): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  if (value >= least && value <= most) return value;
  throw new UsageError(`--${name} must be a whole number from ${least} to ${most}${or}, but is ${text}.`);
}

function choice<T extends string>(name: string, text: string | undefined, known: readonly T[], fallback: T): T {
  if (text === undefined) return fallback;
  const found = known.find((value) => value === text);
  if (found === undefined) throw new UsageError(`--${name} must be one of ${known.join(", ")}, but is ${text}.`);
  return found;
}
