// The command as a user runs it: output, exit codes, and one clear line for everything refused.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { GREEDY_FILE, MODEL_FOLDER } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
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
  expect(lines[0]).toStartWith("TP2 DCP2, KV heads replicated, wasm");
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
  // 7 prompt tokens and 9 of the 10 generated ones, the other not being fed back.
  expect(lines.slice(2, 4).map((line) => line.trim().split(/\s{2,}/)[1])).toEqual(["8", "8"]);
  expect(lines[4]).toContain("10 generated");
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
  for (const option of ["--world", "--kv-heads", "--expect", "--software-vulkan"]) expect(out).toContain(option);
});

describe("refused with exit code 2 and one line", () => {
  const refuse = (args: string[], message: string) => {
    const { code, out, err } = demo(...args);
    expect(err).toContain(message);
    expect(err).toMatch(/^(?:loading [^\n]*\n)?demo: [^\n]+\n$/);
    expect(out).toBe("");
    expect(code).toBe(2);
  };

  test("an unknown option", () => refuse(["--ranks", "4"], "--ranks"));
  test("an illegal value", () => refuse(["--world", "four"], "--world must be a whole number from 1 to 64"));
  test("a DCP that does not divide the world", () => refuse(["--dcp", "3"], "--dcp must divide --world 4"));
  test("more ranks than query heads", () => refuse(["--world", "16"], "at most the model's 8 query heads"));
  test("KV heads that cannot be sharded", () => refuse(["--kv-heads", "sharded"], "--kv-heads sharded is impossible"));
  test("a text beyond the model's positions", () => refuse(["--max-tokens", "20000"], "was made for 16384"));
  test("a model folder that is not there", () => refuse(["--model", join(folder, "none")], "a readable file"));
  test("a file of expectations that is not there", () => refuse(["--expect", join(folder, "none")], "a readable file"));

  test("a truncated model file", () => {
    const copy = modelCopy("truncated");
    truncateSync(join(copy, "model.safetensors"), 9_000_000);
    refuse(["--model", copy], "Is the file complete");
  });

  test("an unknown architecture", () => {
    const copy = modelCopy("unknown");
    const path = join(copy, "config.json");
    const config = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify({ ...config, architectures: ["FalconForCausalLM"] }));
    refuse(["--model", copy], "Qwen3ForCausalLM, but found FalconForCausalLM");
  });

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
