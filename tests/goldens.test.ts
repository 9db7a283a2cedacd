import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkFiles } from "@lockstep/goldens";
import { SafetensorsFile, SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { writeVariants } from "./golden-variants.ts";

setDefaultTimeout(300_000);

const folder = fileURLToPath(new URL("./goldens", import.meta.url));
const command = fileURLToPath(new URL("../apps/goldens/src/main.ts", import.meta.url));
const reference = (kind: string): string => join(folder, `${kind}_public.safetensors`);

describe.each(["correct", "pack", "attention"])("%s", (kind) => {
  test.each(["reference", "wasm", "webgpu"] as const)("agrees with the reference outputs on %s", async (backend) => {
    const worlds = backend === "webgpu" ? [1, 3] : [1, 2, 3, 4, 8];
    const results = await checkFiles([reference(kind)], { backends: [backend], worlds, adapter: "software" });
    const perWorld = kind === "attention" ? worlds.length : 1;
    expect(results.length).toBe(perWorld * (kind === "pack" ? 7 : 9));
    for (const { id, world, deviation } of results) {
      if (!(deviation.worst <= 1))
        throw new Error(`${kind} ${id} in a world of ${world}: ${JSON.stringify(deviation)}`);
    }
  });
});

function run(args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, command, ...args]);
  return { status: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

test("a wrong value in a reference file is found: exit code 1", () => {
  const scratch = mkdtempSync(join(tmpdir(), "lockstep-"));
  const heap = SharedHeap.create(16 << 20);
  using file = SafetensorsFile.open(reference("correct"));
  const tensors = file.names.map((name) => [name, file.read(name, heap)] as [string, Tensor]);
  const path = join(scratch, "wrong.safetensors");
  const broken = tensors.find(([name]) => name === "c1.corrected")?.[1];
  const elements = broken?.f32 ?? new Float32Array();
  elements[5] = (elements[5] ?? 0) + 1e-3;
  writeSafetensors(path, tensors, file.metadata);
  const { status, stdout } = run([path, "--backend", "wasm"]);
  rmSync(scratch, { recursive: true });
  expect(stdout).toContain("FAIL wrong.safetensors c1 wasm");
  expect(stdout).toContain("8 passed, 1 failed");
  expect(status).toBe(1);
});

test.each([
  ["no file", [], "FILE"],
  ["a missing file", ["absent.safetensors"], "absent.safetensors"],
  ["an unknown backend", [reference("pack"), "--backend", "cuda"], "cuda"],
  ["a world of no ranks", [reference("pack"), "--world", "0"], "--world"],
  ["an unknown option", [reference("pack"), "--fast"], "--fast"],
  ["a file that is no reference file", [command], "main.ts"],
])("%s: one clear line and exit code 2", (_, args, named) => {
  const { status, stderr } = run(args);
  expect(stderr).toContain(named);
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(status).toBe(2);
});

test("attention cases with every variant agree with float64", async () => {
  const scratch = mkdtempSync(join(tmpdir(), "lockstep-"));
  const path = join(scratch, "variants.safetensors");
  const cases = writeVariants(path);
  const results = await checkFiles([path], { backends: ["wasm", "reference"], worlds: [1, 3], adapter: "software" });
  const { status, stdout } = run([path, "--backend", "wasm", "--world", "2"]);
  rmSync(scratch, { recursive: true });
  expect(results.length).toBe(4 * cases);
  for (const { id, world, fields, deviation } of results) {
    if (!(deviation.worst <= 1))
      throw new Error(`${id} ${JSON.stringify(fields)}, ${world}: ${JSON.stringify(deviation)}`);
  }
  expect(stdout).toContain(`${cases} passed, 0 failed`);
  expect(status).toBe(0);
});

test.each([
  ["scales missing for a quantised cache", { lens: [3], kv_dtype: "fp8" }, "k_scale"],
  ["an unknown cache dtype", { lens: [3], kv_dtype: "int4" }, "kv_dtype"],
  ["sinks of other heads", { lens: [3], sinks: [1] }, "sinks"],
  ["an unknown base", { lens: [3], lse_base: "10" }, "lse_base"],
])("%s: one clear line and exit code 2", (_, fields, named) => {
  const scratch = mkdtempSync(join(tmpdir(), "lockstep-"));
  const heap = SharedHeap.create(1 << 20);
  const path = join(scratch, "bad.safetensors");
  const shapes = { q: [1, 2, 4], k: [3, 1, 4], v: [3, 1, 4], out: [1, 2, 4], lse: [1, 2] };
  const tensors = Object.entries(shapes).map(
    ([name, shape]) => [`a0.${name}`, Tensor.zeros(heap, "f32", shape)] as const,
  );
  writeSafetensors(path, tensors, { cases: JSON.stringify([fields]) });
  const { status, stderr } = run([path, "--backend", "wasm", "--world", "1"]);
  rmSync(scratch, { recursive: true });
  expect(stderr).toContain(named);
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(status).toBe(2);
});

test("a file of a kind without cases is refused", () => {
  const scratch = mkdtempSync(join(tmpdir(), "lockstep-"));
  const heap = SharedHeap.create(1 << 20);
  const path = join(scratch, "none.safetensors");
  writeSafetensors(path, [["x0.a", Tensor.zeros(heap, "f32", [1])]]);
  const { status, stderr } = run([path]);
  rmSync(scratch, { recursive: true });
  expect(stderr).toContain("docs/goldens.md");
  expect(status).toBe(2);
});
