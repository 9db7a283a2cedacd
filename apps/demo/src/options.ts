import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { UsageError } from "./errors.ts";

const BACKENDS = ["webgpu", "wasm", "reference", "auto"] as const;
const COMBINES = ["ag-rs", "a2a", "auto"] as const;
const KV_DTYPES = ["f32", "f16", "bf16"] as const;
const KV_LAYOUTS = ["replicated", "sharded", "auto"] as const;
const MOST_RANKS = 64;

/** The command line, checked as far as it can be without the model. */
export interface DemoOptions {
  readonly world: number;
  readonly dcp: number;
  readonly kvHeads: (typeof KV_LAYOUTS)[number];
  readonly prompt: string;
  readonly maxTokens: number;
  readonly interleave: number;
  readonly blockSize: number;
  readonly backend: (typeof BACKENDS)[number];
  readonly combine: (typeof COMBINES)[number];
  readonly kvDtype: (typeof KV_DTYPES)[number];
  readonly verify: boolean;
  readonly expectFile: string | undefined;
  readonly modelFolder: string;
  readonly softwareVulkan: boolean;
  readonly help: boolean;
}

export const HELP = `Generates text with a language model whose KV cache is sharded over ranks.

usage: bun run demo [options]

  --world N         ranks, each a worker with its share of the weights (default 4)
  --dcp N           ranks that split the tokens of a KV cache among them; divides --world (default: --world)
  --kv-heads L      replicated: every rank keeps its tokens for all KV heads; sharded: KV heads are split over the
                    ranks, and the tokens of a head over the ranks that share it; auto (default): sharded if possible
  --prompt TEXT     text to continue (default: "Psa23:1 The LORD is")
  --max-tokens N    tokens to generate (default 96)
  --interleave N    consecutive tokens a rank stores before the next rank's turn; divides --block-size (default 1)
  --block-size N    tokens per KV block (default 16)
  --backend B       webgpu, wasm, reference or auto (default: webgpu on a hardware GPU, else wasm)
  --combine C       ag-rs, a2a or auto: how the ranks' partial results are combined (default auto)
  --kv-dtype T      f32, f16 or bf16: type of the cached keys and values (default f32)
  --verify          generate the same on one rank and compare; exit code 1 on a difference
  --expect FILE     generate for every entry of a JSON file of prompts and expected token ids, and compare; exit code 1
                    on a difference
  --model DIR       folder of a Llama model in Hugging Face format (default: the one that comes with the demo)
  --software-vulkan accept a software adapter for --backend webgpu (for tests: slow)
  --help            show this

exit codes: 0 done, 1 a difference or a failure, 2 bad options or an unusable model
`;

const DEFAULT_MODEL = fileURLToPath(new URL("../model", import.meta.url));

/** Parses and checks the command line. Throws {@link UsageError}. */
export function parseOptions(args: readonly string[]): DemoOptions {
  const values = parse(args);
  const world = count("world", values.world, 4, MOST_RANKS);
  const dcp = count("dcp", values.dcp, world, MOST_RANKS);
  if (world % dcp !== 0) throw new UsageError(`--dcp must divide --world ${world}, but is ${dcp}.`);
  const blockSize = count("block-size", values["block-size"], 16, 65536);
  const interleave = count("interleave", values.interleave, 1, 65536);
  if (blockSize % interleave !== 0) {
    throw new UsageError(`--interleave must divide --block-size ${blockSize}, but is ${interleave}.`);
  }
  const kvDtype = choice("kv-dtype", values["kv-dtype"], KV_DTYPES, "f32");
  if (values.expect !== undefined) {
    if (kvDtype !== "f32") throw new UsageError(`--expect compares with KV in f32, but --kv-dtype is ${kvDtype}.`);
    for (const name of ["prompt", "max-tokens", "verify"] as const) {
      if (values[name] !== undefined) throw new UsageError(`--expect takes its prompts from a file: drop --${name}.`);
    }
  }
  const prompt = values.prompt ?? "Psa23:1 The LORD is";
  if (prompt === "") throw new UsageError("--prompt must not be empty.");
  return {
    world,
    dcp,
    kvHeads: choice("kv-heads", values["kv-heads"], KV_LAYOUTS, "auto"),
    prompt,
    maxTokens: count("max-tokens", values["max-tokens"], 96, 1 << 20),
    interleave,
    blockSize,
    backend: choice("backend", values.backend, BACKENDS, "auto"),
    combine: choice("combine", values.combine, COMBINES, "auto"),
    kvDtype,
    verify: values.verify ?? false,
    expectFile: values.expect,
    modelFolder: values.model ?? DEFAULT_MODEL,
    softwareVulkan: values["software-vulkan"] ?? false,
    help: values.help ?? false,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        world: { type: "string" },
        dcp: { type: "string" },
        "kv-heads": { type: "string" },
        prompt: { type: "string" },
        "max-tokens": { type: "string" },
        interleave: { type: "string" },
        "block-size": { type: "string" },
        backend: { type: "string" },
        combine: { type: "string" },
        "kv-dtype": { type: "string" },
        verify: { type: "boolean" },
        expect: { type: "string" },
        model: { type: "string" },
        "software-vulkan": { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${(message.split(/\. |\n/)[0] ?? message).replace(/\.$/, "")}. See --help.`);
  }
}

function count(name: string, text: string | undefined, fallback: number, most: number): number {
  if (text === undefined) return fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > most) {
    throw new UsageError(`--${name} must be a whole number from 1 to ${most}, but is ${text}.`);
  }
  return value;
}

function choice<T extends string>(name: string, text: string | undefined, known: readonly T[], fallback: T): T {
  if (text === undefined) return fallback;
  const found = known.find((value) => value === text);
  if (found === undefined) throw new UsageError(`--${name} must be one of ${known.join(", ")}, but is ${text}.`);
  return found;
}
