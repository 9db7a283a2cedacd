// The command as a user runs it: output, exit codes, and one clear line for everything refused.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

setDefaultTimeout(120_000);

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const MAIN = own("../src/main.ts");
const MODEL_FOLDER = own("../model");
const GREEDY_FILE = own("../goldens/greedy_public.json");
const folder = mkdtempSync(join(tmpdir(), "lockstep-demo-"));
afterAll(() => rmSync(folder, { recursive: true }));

function demo(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: "utf8" });
  return { code: status, out: stdout, err: stderr };
}

/** A copy of the shipped model to be damaged. */
function modelCopy(name: string): string {
  const copy = join(folder, name);
  cpSync(MODEL_FOLDER, copy, { recursive: true });
  return copy;
}

test("generates text and closes with a table of every rank", () => {
  const { code, out } = demo("--world", "2", "--max-tokens", "10", "--backend", "wasm");
  expect(code).toBe(0);
  const [text, ...rest] = out.split("\n\n");
  expect(text).toBe("Psa23:1 The LORD is my shepherd; I shall not want.\nPsa");
  const lines = (rest[0] ?? "").trimEnd().split("\n");
  expect(lines[0]).toStartWith("TP2 DCP1, KV heads sharded, wasm");
  expect(lines[1]?.trim().split(/\s{2,}/)).toEqual([
    "rank",
    "tokens held",
    "KV held",
    "KV exchanged",
    "TP exchanged",
    "gather ms",
    "attention ms",
    "combine ms",
  ]);
  // 7 prompt tokens and 9 of the 10 generated ones, the other not being fed back: each rank has them for a KV head.
  expect(lines.slice(2, 4).map((line) => line.trim().split(/\s{2,}/)[1])).toEqual(["16", "16"]);
  expect(lines[4]).toContain("10 generated");
});

test("ranks with unequal memories hold unequal parts, as planned, and generate what one rank does", () => {
  const plan = demo("--world", "2", "--backend", "wasm", "--kv-bytes", "4MiB,1MiB", "--max-context", "max", "--plan");
  expect(plan).toMatchObject({ code: 0, err: "" });
  expect(plan.out).toStartWith("room for a text of 640 tokens (640 fit), dealt 4, 1 to the ranks that share them\n");
  const args = ["--world", "2", "--backend", "wasm", "--kv-weights", "3,1", "--max-tokens", "10", "--verify"];
  const { code, out } = demo(...args);
  expect(code).toBe(0);
  const lines = out.split("\n\n")[1]?.trimEnd().split("\n") ?? [];
  expect(lines[0]).toStartWith("TP2 DCP2 by 3, 1, KV heads replicated, wasm");
  expect(lines.slice(2, 4).map((line) => line.trim().split(/\s{2,}/)[1])).toEqual(["12", "4"]);
  expect(lines.at(-1)).toBe("verify: one rank generates the same 10 tokens");
  const small = demo("--world", "2", "--backend", "wasm", "--kv-bytes", "4MiB,1MiB", "--max-context", "641", "--plan");
  expect(small.code).toBe(2);
  expect(small.out).toMatch(
    /does not fit: the KV cache takes .* of rank 0, which has 4.0 MiB for it: take --kv-dtype f16/,
  );
});

test("--deterministic world-invariant is told, generates the same, and takes no combine that packs floats", () => {
  const mode = ["--backend", "wasm", "--deterministic", "world-invariant", "--world", "3"];
  const { code, out } = demo(...mode, "--max-tokens", "10", "--verify");
  expect(code).toBe(0);
  expect(out).toStartWith("Psa23:1 The LORD is my shepherd; I shall not want.\nPsa\n\n");
  const lines = out.split("\n\n")[1]?.trimEnd().split("\n") ?? [];
  expect(lines[0]).toMatch(/^TP3 DCP3, KV heads replicated, wasm .*, combine (a2a|ag-rs), world-invariant$/);
  expect(lines.at(-1)).toBe("verify: one rank generates the same 10 tokens");
  expect(demo(...mode, "--combine", "one-shot")).toEqual({
    code: 2,
    out: "",
    err: "demo: --deterministic world-invariant goes with --combine a2a, ag-rs or auto, but is given one-shot.\n",
  });
});

test("by default the number of ranks is chosen, and the last line says why; what nobody can have is refused", () => {
  const { code, out, err } = demo("--max-tokens", "10", "--backend", "wasm");
  expect(code).toBe(0);
  expect(out).toStartWith("Psa23:1 The LORD is my shepherd; I shall not want.\nPsa\n\n");
  expect(out.trimEnd().split("\n").at(-1)).toMatch(/^world auto: .*rank/);
  expect(err).toContain("choosing the number of ranks\nloading the model on ");
  const given = demo("--world", "2", "--max-tokens", "2", "--backend", "wasm");
  expect(given.out).not.toContain("world auto");
  const shared = demo("--backend", "webgpu", "--software-vulkan", "--shared-gpu");
  expect(shared.err).toBe(
    "demo: --world auto cannot time ranks that share a GPU: take a number, or no --shared-gpu.\n",
  );
  expect(shared.code).toBe(2);
});

describe("--plan starts no rank, and times nothing", () => {
  test("with --world auto: a table of each number of ranks that may be chosen", () => {
    const { code, out, err } = demo("--plan", "--backend", "wasm");
    expect(code).toBe(0);
    expect(err).toBe("");
    expect(out).toStartWith("TP1 DCP1, KV heads replicated: room for a text of 103 tokens (16384 fit)\nrank ");
    const plans = out.trimEnd().split("\n\n").slice(0, -1);
    for (const plan of plans) expect(plan.split("\n").at(-1)).toStartWith("fits: ");
    expect(out.trimEnd().split("\n").at(-1)).toBe(
      `world auto: ${plans.length === 1 ? "this" : "one of these, which some steps of each tell when they run"}`,
    );
  });

  test("where nothing fits: a table of the most ranks, and what would make it fit", () => {
    const file = join(folder, "many.txt");
    writeFileSync(file, "Ge1:1\n".repeat(2000));
    const args = ["--backend", "wasm", "--prompt-file", file, "--max-tokens", "16000"];
    const { code, out, err } = demo("--plan", ...args);
    expect(code).toBe(2);
    expect(err).toBe("");
    expect(out).toStartWith("TP8 DCP1, KV heads sharded: room for 2000 texts of 160");
    expect(out).toMatch(/^does not fit: the KV cache takes .* of each of 8 ranks, .*: take fewer texts at a time or /m);
    expect(out).toEndWith("\n\nworld auto: nothing fits\n");
  });

  test("of a number of ranks: one table", () => {
    const { code, out } = demo("--plan", "--backend", "wasm", "--world", "2");
    expect(code).toBe(0);
    expect(out).toStartWith("room for a text of 103 tokens (16384 fit)\nrank ");
    expect(out.trimEnd().split("\n").length).toBe(5);
  });
});

test("several prompts come out numbered, in their order, each as one rank makes it alone", () => {
  const file = join(folder, "prompts.txt");
  writeFileSync(file, "Ge1:1\n\nJohn3:16\n");
  const args = [
    "--prompt",
    "Psa23:1 The LORD is",
    "--prompt-file",
    file,
    "--max-tokens",
    "12",
    "--speculative",
    "--verify",
  ];
  const { code, out } = demo("--world", "2", "--backend", "wasm", ...args);
  expect(code).toBe(0);
  const [first, second, third, rest] = out.split("\n\n");
  expect(first).toBe("[1] Psa23:1 The LORD is my shepherd; I shall not want.\nPsa23:");
  expect(second).toStartWith("[2] Ge1:1 In the beginning God created");
  expect(third?.trimStart()).toStartWith("[3] John3:16 For God so loved the world");
  expect(rest).toContain("prompt tokens of 3 texts in ");
  expect(rest).toMatch(/^speculation: \d+ of \d+ drafted tokens accepted$/m);
  for (const text of [1, 2, 3]) expect(rest).toContain(`verify: [${text}] one rank generates the same 12 tokens\n`);
});

test.each(["fp8", "int8"])("--kv %s, --prefill-chunk and --explain, as a table and as JSON", (kv) => {
  const file = join(folder, "step.json");
  const args = ["--kv", kv, "--prefill-chunk", "3", "--max-tokens", "6", "--explain", "4", "--explain-json", file];
  const { code, out } = demo("--world", "2", "--dcp", "2", "--backend", "wasm", ...args);
  expect(code).toBe(0);
  expect(out).toStartWith("Psa23:1 The LORD is my shepherd; I shall");
  expect(out).toContain(`, KV ${kv}\n`);
  // Prompt tokens 1 to 3, 4 to 6, 7, then the first token that was generated.
  expect(out).toContain("\nstep 4, decode, combine ");
  const explanation = JSON.parse(readFileSync(file, "utf8"));
  expect(explanation.ranks.map(({ texts }: { texts: { held: number }[] }) => texts[0]?.held)).toEqual([4, 4]);
});

test("--weights int8 tells the same text, and says so", () => {
  const args = ["--weights", "int8", "--max-tokens", "24", "--backend", "wasm", "--verify"];
  const { code, out } = demo("--world", "2", ...args);
  expect(out).toStartWith("Psa23:1 The LORD is my shepherd; I shall not want.\nPsa23:2 He maketh me to lie down");
  expect(out).toContain(", weights int8\n");
  expect(out).toContain("verify: one rank generates the same 24 tokens\n");
  expect(code).toBe(0);
});

test("--verify compares with one rank", () => {
  const { code, out } = demo("--world", "4", "--dcp", "2", "--max-tokens", "12", "--backend", "wasm", "--verify");
  expect(out).toContain("KV heads sharded");
  expect(out).toContain("verify: one rank generates the same 12 tokens\n");
  expect(code).toBe(0);
});

describe("--expect", () => {
  const entries = JSON.parse(readFileSync(GREEDY_FILE, "utf8")).slice(0, 2);
  const run = (changed: unknown) => {
    const file = join(folder, "expect.json");
    writeFileSync(file, JSON.stringify(changed));
    return demo("--world", "2", "--backend", "wasm", "--expect", file);
  };

  test("exits 0 with a line for every entry when all agree", () => {
    const { code, out } = run(entries);
    expect(
      out
        .trimEnd()
        .split("\n")
        .map((line) => line.slice(0, 7)),
    ).toEqual(["ok   1/", "ok   2/"]);
    expect(code).toBe(0);
  });

  test("exits 1 and says where when a token differs", () => {
    const { code, out } = run([entries[0], { ...entries[1], greedy_ids: entries[1].greedy_ids.with(5, 9) }]);
    expect(out).toContain("ok   1/2");
    expect(out).toMatch(/^DIFF 2\/2 .*token 6 is \d+, expected 9$/m);
    expect(code).toBe(1);
  });

  test("exits 1 when a prompt encodes to other ids", () => {
    const { code, out } = run([{ ...entries[0], prompt_ids: entries[0].prompt_ids.slice(1) }]);
    expect(out).toMatch(/^DIFF 1\/1 .*prompt token 1 is/m);
    expect(code).toBe(1);
  });
});

test("--help lists every option", () => {
  const { code, out, err } = demo("--help");
  expect(code).toBe(0);
  expect(err).toBe("");
  const source = readFileSync(own("../src/options.ts"), "utf8");
  const declared = [...source.matchAll(/^ {2}"?([a-z-]+)"?: \{ type: /gm)].map(([, name]) => `--${name}`);
  expect(declared.length).toBeGreaterThan(20);
  for (const option of declared) expect(out).toContain(`  ${option}`);
});

describe("refused with exit code 2 and one line", () => {
  const refuse = (args: string[], message: string) => {
    const { code, out, err } = demo(...args);
    expect(err).toContain(message);
    expect(err).toMatch(/^demo: [^\n]+\n$/);
    expect(out).toBe("");
    expect(code).toBe(2);
  };

  test("an unknown option", () =>
    refuse(["--max-token", "4"], "Unknown option '--max-token': expected one such as --max-tokens. See --help."));
  test("an illegal value", () => refuse(["--world", "four"], "--world must be a whole number from 1 to 64"));
  test("a DCP that does not divide the world", () =>
    refuse(["--world", "4", "--dcp", "3"], "--dcp must divide --world 4"));
  test("more ranks than query heads", () => refuse(["--world", "16"], "at most the model's 8 query heads"));
  test("KV heads that cannot be sharded", () =>
    refuse(["--kv-heads", "sharded", "--world", "3"], "--kv-heads sharded is impossible"));
  test("DCP beyond the ranks that share a KV head", () =>
    refuse(
      ["--kv-heads", "sharded", "--world", "4", "--dcp", "4"],
      "--dcp 4 makes one group of all ranks, which stores all 2 KV heads. Use replicated.",
    ));
  test("a draft longer than what --max-tokens leaves", () =>
    refuse(["--speculative", "--draft", "8", "--max-tokens", "8"], "--draft must be below --max-tokens 8"));
  test("a step that cannot come", () =>
    refuse(["--explain", "104"], "--explain 104 is beyond the steps that 7 prompt tokens and --max-tokens 96 take"));
  test("an explanation that cannot be written", () =>
    refuse(["--explain-json", join(folder, "none", "x")], "--explain-json must name a file that can be written to"));
  test("a software adapter for wasm", () =>
    refuse(["--software-vulkan", "--backend", "wasm"], "--software-vulkan accepts an adapter for webgpu"));
  test("a file of prompts that is not there, or empty", () => {
    refuse(["--prompt-file", join(folder, "none")], "a readable file");
    const file = join(folder, "empty.txt");
    writeFileSync(file, "\n \n");
    refuse(["--prompt-file", file], "--prompt-file must hold a text");
  });
  test("more texts than the ranks hold, with what would make them fit", () => {
    const file = join(folder, "many.txt");
    writeFileSync(file, "Ge1:1\n".repeat(2000));
    const given = ["--prompt-file", file, "--max-tokens", "16000", "--backend", "wasm"];
    refuse(given, "of each of 8 ranks, but a memory holds 4.00 GiB: take fewer texts at a time or texts of at most");
    refuse(given, "tokens (--prompt and --max-tokens, or --max-context).");
  });
  test("more room than the model was made for", () =>
    refuse(["--max-context", "20000"], "--max-context must be at most 16384, which the model was made for"));
  test("a text beyond the model's positions", () => refuse(["--max-tokens", "20000"], "was made for 16384"));
  test("a model folder that is not there", () => refuse(["--model", join(folder, "none")], "a readable file"));
  test("a file of expectations that is not there", () => refuse(["--expect", join(folder, "none")], "a readable file"));

  test("a truncated model file", () => {
    const copy = modelCopy("truncated");
    truncateSync(join(copy, "model.safetensors"), 9_000_000);
    refuse(["--model", copy], "Is the file complete");
  });

  test("a tokenizer with tokens that the model does not have", () => {
    const copy = modelCopy("tokens-beyond");
    const path = join(copy, "tokenizer.json");
    const tokenizer = JSON.parse(readFileSync(path, "utf8"));
    tokenizer.added_tokens.push({ id: 5000, content: "LORD", special: false, normalized: false });
    writeFileSync(path, JSON.stringify(tokenizer));
    refuse(["--model", copy], "expected token ids below vocab_size 4096, but found 5000");
  });

  test("an unknown architecture", () => {
    const copy = modelCopy("unknown");
    const path = join(copy, "config.json");
    const config = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify({ ...config, architectures: ["FalconForCausalLM"] }));
    refuse(["--model", copy], "Qwen3ForCausalLM, but found FalconForCausalLM");
  });

  test("a directory where weights should be", () => {
    const copy = modelCopy("directory");
    rmSync(join(copy, "model.safetensors"));
    mkdirSync(join(copy, "model.safetensors"));
    refuse(["--model", copy], join(copy, "model.safetensors"));
  });

  test.each([
    ["config.json", { hidden_size: { toString: 1 } }, 'found {"toString":1}'],
    ["config.json", { num_hidden_layers: 2 ** 32 }, "num_hidden_layers to be a positive integer below 2^31"],
    ["config.json", { max_position_embeddings: 1e308 }, "max_position_embeddings to be a positive integer below 2^31"],
    ["config.json", { rope_parameters: { rope_type: "linear", factor: 1e-30 } }, "positions / factor below 2^31"],
    ["generation_config.json", { eos_token_id: { toString: 1 } }, "eos_token_id to be a token id"],
    ["tokenizer.json", { post_processor: { type: "TemplateProcessing", single: 5 } }, "a tokenizer definition"],
    ["tokenizer.json", { post_processor: 5 }, "post_processor to be null or an object with a type"],
    ["tokenizer.json", { added_tokens: [{ id: 1e308, content: "x" }] }, "added_tokens with content and an id"],
  ] as const)("%s with %j", (file, changes, message) => {
    const copy = modelCopy("wrong");
    const path = join(copy, file);
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...changes }));
    refuse(["--model", copy], message);
  });

  test.each([
    ["--max-tokens", "1e308"],
    ["--max-tokens", "99999999999999999999"],
    ["--world", "4294967297"],
    ["--draft", "-0.5"],
    ["--prefill-chunk", "Infinity"],
  ])("%s %s", (option, value) => refuse([`${option}=${value}`, "--speculative"], option));

  test("weights that disagree with the config", () => {
    const copy = modelCopy("disagreeing");
    const path = join(copy, "config.json");
    const config = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify({ ...config, intermediate_size: 700 }));
    refuse(["--model", copy], "of shape [700, 256], but found [704, 256]");
  });
});

test("a reader that stops early ends the command quietly", () => {
  const { status, stdout, stderr } = spawnSync(
    "sh",
    ["-c", `"$0" "$1" --world 1 --max-tokens 200 | head -c 7`, process.execPath, MAIN],
    { encoding: "utf8" },
  );
  expect(stdout).toBe("Psa23:1");
  expect(stderr).not.toContain("EPIPE");
  expect(status).toBe(0);
});
