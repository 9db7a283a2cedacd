import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

setDefaultTimeout(120_000);

const goldens = fileURLToPath(new URL("../../apps/goldens/src/main.ts", import.meta.url));
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lockstep-goldens-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function run(file: string, ...args: string[]): { status: number; printed: string; said: string } {
  const command = [process.execPath, file, ...args];
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: import.meta.dir });
  return { status: exitCode, printed: stdout.toString(), said: stderr.toString() };
}

test("what attention.ts computes agrees", () => {
  const file = join(folder, "mine.safetensors");
  expect(run("write-reference.ts", file)).toEqual({ status: 0, printed: "", said: "" });
  const { status, printed } = run(goldens, "--backend", "wasm,reference", file);
  expect(printed).toEndWith("20 passed, 0 failed\n");
  expect(status).toBe(0);
});

test("a wrong number is reported for its case, and there alone", () => {
  const file = join(folder, "wrong.safetensors");
  expect(run("write-reference.ts", file, "--wrong").status).toBe(0);
  const { status, printed } = run(goldens, "--backend", "wasm", "--world", "1,4", file);
  const verdicts = [...printed.matchAll(/^(ok|FAIL) +\S+ (a\d)/gm)].map(([, verdict, id]) => `${verdict} ${id}`);
  expect(verdicts).toEqual(["FAIL a0", "ok a1", "FAIL a0", "ok a1"]);
  expect(status).toBe(1);
});

test.each([
  ["correction", 6],
  ["packing", 6],
  ["attention", 12],
])("what generate.py wrote agrees: %s", (kind, count) => {
  const { status, printed } = run(
    goldens,
    "--backend",
    "wasm,reference",
    "--world",
    "3",
    `pytorch/${kind}.safetensors`,
  );
  expect(printed).toEndWith(`${count} passed, 0 failed\n`);
  expect(status).toBe(0);
});

test("docs/goldens.md leads to the generator in PyTorch, which is Python", () => {
  expect(readFileSync(fileURLToPath(new URL("../../docs/goldens.md", import.meta.url)), "utf8")).toContain(
    "(../examples/check-goldens/generate.py)",
  );
  const python = Bun.which("python3");
  if (python === null) return;
  const check = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
  const { exitCode, stderr } = Bun.spawnSync([python, "-c", check, join(import.meta.dir, "generate.py")]);
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
});
