// The verifier over damaged copies of the corpus: what is damaged is named, and never passes.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodeSafetensors, SafetensorsFile, SharedHeap, type Tensor } from "@lockstep/tensor";

setDefaultTimeout(300_000);

const corpus = fileURLToPath(new URL("../../../corpus/", import.meta.url));
const command = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "lockstep-"));
afterAll(() => rmSync(scratch, { recursive: true }));
const heap = SharedHeap.create(16 << 20);

/** The parts of a manifest that are damaged here. */
interface Manifest {
  format: unknown;
  version: unknown;
  case_count: number;
  files: Record<string, { bytes: number; sha256: string }>;
  tolerances: Record<string, { atol: number }>;
  cases: {
    name: string;
    op: string;
    file: string;
    parameters: Record<string, unknown>;
    inputs: Record<string, string>;
    outputs?: Record<string, { tensor: string; tolerance: string }>;
    wrong?: { mistakes: string[]; outputs: Record<string, string> }[];
    refuse?: string;
  }[];
}

let copies = 0;

/** A copy of the corpus with the ops that need no world, which is quick to check. */
function copy(): { folder: string; manifest: Manifest; write: () => void } {
  const folder = join(scratch, `copy${copies++}`);
  cpSync(corpus, folder, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as Manifest;
  manifest.cases = manifest.cases.filter(({ file }) => file === "pack.safetensors" || file === "ownership.safetensors");
  manifest.case_count = manifest.cases.length;
  manifest.files = Object.fromEntries(
    Object.entries(manifest.files).filter(([name]) => name.startsWith("pack") || name.startsWith("ownership")),
  );
  const write = (): void => writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  return { folder, manifest, write };
}

function run(folder: string): { status: number; stdout: string; stderr: string } {
  const args = [process.execPath, command, join(folder, "manifest.json"), "--backend", "wasm"];
  const { exitCode, stdout, stderr } = Bun.spawnSync(args);
  return { status: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** Writes a file of the corpus anew, with its digest in the manifest. */
function rewrite(folder: string, manifest: Manifest, name: string, change: (name: string, tensor: Tensor) => void) {
  const path = join(folder, name);
  const file = SafetensorsFile.from(new Uint8Array(readFileSync(path)), path);
  const tensors = file.names.map((each): [string, Tensor] => {
    const tensor = file.read(each, heap);
    change(each, tensor);
    return [each, tensor];
  });
  const bytes = encodeSafetensors(tensors);
  writeFileSync(path, bytes);
  for (const [, tensor] of tensors) tensor.free();
  manifest.files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

test("the copy itself passes", () => {
  const { folder, manifest, write } = copy();
  write();
  const { status, stdout } = run(folder);
  expect(stdout).toContain(`${manifest.case_count} passed, 0 failed`);
  expect(status).toBe(0);
});

test("a flipped byte, anywhere in a file: the file is named, exit code 2", () => {
  const { folder, write } = copy();
  write();
  const path = join(folder, "pack.safetensors");
  const bytes = readFileSync(path);
  for (const at of [0, 20, Math.floor(bytes.length / 2), bytes.length - 1]) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    writeFileSync(path, damaged);
    const { status, stderr } = run(folder);
    expect(stderr).toContain("pack.safetensors: expected SHA-256");
    expect(stderr.trim().split("\n").length).toBe(1);
    expect(status).toBe(2);
  }
  writeFileSync(path, bytes.subarray(0, -1));
  expect(run(folder).stderr).toContain(`expected ${bytes.length} bytes`);
});

test("a wrong expected value under a right digest: the case fails, exit code 1", () => {
  const { folder, manifest, write } = copy();
  rewrite(folder, manifest, "pack.safetensors", (name, tensor) => {
    if (name === "pack_seq/falling.packed") tensor.f32[4] = 123;
  });
  write();
  const { status, stdout } = run(folder);
  expect(stdout).toContain("FAIL pack_seq/falling wasm");
  expect(stdout).toContain(`${manifest.case_count - 1} passed, 1 failed`);
  expect(status).toBe(1);
});

test("a result that is what a known mistake gives: the case fails and names the mistake", () => {
  const { folder, manifest, write } = copy();
  const each = manifest.cases.find(({ name }) => name === "slot_mapping/world-2-interleave-2-blocks-of-4");
  const wrong = each?.wrong?.[0];
  const slots = each?.outputs?.slots;
  if (wrong === undefined || slots === undefined) throw new Error("the case lists mistakes");
  // Exchanged: now the right numbers stand under the mistake's name.
  [slots.tensor, wrong.outputs.slots] = [wrong.outputs.slots ?? "", slots.tensor];
  write();
  const { status, stdout } = run(folder);
  expect(stdout).toMatch(/FAIL slot_mapping\/world-2-interleave-2-blocks-of-4 wasm .*looks like /);
  expect(stdout).toContain(`\n${wrong.mistakes[0]}: `);
  expect(status).toBe(1);
});

test("a missing file: it is named, exit code 2", () => {
  const { folder, write } = copy();
  write();
  unlinkSync(join(folder, "ownership.safetensors"));
  const { status, stderr } = run(folder);
  expect(stderr).toContain("ownership.safetensors: expected this file of the corpus");
  expect(status).toBe(2);
});

test.each<[what: string, change: (manifest: Manifest) => void, named: string]>([
  ["an unknown op", ({ cases: [each] }) => Object.assign(each ?? {}, { op: "paged_decode" }), "paged_decode"],
  [
    "an op named like a property of objects",
    ({ cases: [each] }) => Object.assign(each ?? {}, { op: "toString" }),
    "toString",
  ],
  ["another format", (manifest) => Object.assign(manifest, { format: "mine" }), "`format`"],
  ["another version", (manifest) => Object.assign(manifest, { version: 2 }), "`version`"],
  ["a case left out", ({ cases }) => cases.pop(), "`case_count`"],
  [
    "a case left out, and counted so",
    (manifest) => {
      manifest.cases = manifest.cases.filter(({ name }) => name !== "pack_seq/falling");
      manifest.case_count -= 1;
    },
    "pack_seq/falling.x",
  ],
  ["a case twice", ({ cases }) => Object.assign(cases[1] ?? {}, { ...cases[0] }), "but found two"],
  ["wider tolerances", ({ tolerances }) => Object.assign(tolerances.f32 ?? {}, { atol: 1 }), "`tolerances`"],
  [
    "an unknown tolerance",
    ({ cases: [each] }) => Object.assign(each?.outputs?.packed ?? {}, { tolerance: "generous" }),
    "a known tolerance for packed of pack_seq/equal-lengths",
  ],
  [
    "an input that is not there",
    ({ cases: [each] }) => Object.assign(each?.inputs ?? {}, { x: "nothing" }),
    "inputs x of pack_seq/equal-lengths",
  ],
  [
    "an input of another name",
    ({ cases: [each] }) => {
      const { x = "", ...others } = each?.inputs ?? {};
      Object.assign(each ?? {}, { inputs: { ...others, y: x } });
    },
    "to have an input x",
  ],
  [
    "no outputs",
    ({ cases: [each] }) => Object.assign(each ?? {}, { outputs: {} }),
    "outputs of pack_seq/equal-lengths",
  ],
  ["an unknown parameter", ({ cases: [each] }) => Object.assign(each?.parameters ?? {}, { padding: 3 }), "`padding`"],
  ["a parameter of another kind", ({ cases: [each] }) => Object.assign(each?.parameters ?? {}, { pad: [] }), "`pad`"],
  [
    "an unknown mistake",
    ({ cases: [each] }) => Object.assign(each?.wrong?.[0] ?? {}, { mistakes: ["bad luck"] }),
    "known mistakes",
  ],
  [
    "a file outside the folder",
    ({ files }) => Object.assign(files, { "../x.safetensors": { bytes: 1, sha256: "" } }),
    "../x.safetensors",
  ],
])("%s: one clear line that names it, exit code 2", (_, change, named) => {
  const { folder, manifest, write } = copy();
  change(manifest);
  write();
  const { status, stderr } = run(folder);
  expect(stderr).toContain(named);
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(status).toBe(2);
});

test.each<[what: string, change: (manifest: Manifest) => void, failing: string]>([
  [
    "a wider tolerance of the list",
    ({ cases: [each] }) => Object.assign(each?.outputs?.packed ?? {}, { tolerance: "bf16" }),
    "pack_seq/equal-lengths",
  ],
  [
    "an output of another name",
    ({ cases: [each] }) => {
      if (each?.outputs?.packed !== undefined) each.outputs = { padded: each.outputs.packed };
      if (each !== undefined) {
        each.wrong =
          each.wrong?.map(({ mistakes, outputs }) => ({ mistakes, outputs: { padded: outputs.packed ?? "" } })) ?? [];
      }
    },
    "pack_seq/equal-lengths",
  ],
  [
    "an output of another shape",
    ({ cases: [each] }) => {
      if (each?.outputs?.packed !== undefined) each.outputs.packed.tensor = each.inputs.x ?? "";
      each?.wrong?.push({ mistakes: ["pad-zero"], outputs: { packed: "pack_seq/equal-lengths.packed" } });
    },
    "pack_seq/equal-lengths",
  ],
  [
    "good input that must be refused",
    ({ cases: [each] }) => {
      const tensors = Object.values(each?.outputs ?? {}).map(({ tensor }) => tensor);
      const others = (each?.wrong ?? []).flatMap(({ outputs }) => Object.values(outputs));
      each?.wrong?.push(...[...tensors, ...others].map((packed) => ({ mistakes: ["pad-zero"], outputs: { packed } })));
      Object.assign(each ?? {}, { outputs: undefined, refuse: "It is not." });
    },
    "pack_seq/equal-lengths",
  ],
  [
    "bad input that need not be refused",
    ({ cases }) => {
      const each = cases.find(({ name }) => name === "pack_seq/more-than-there-are");
      Object.assign(each ?? {}, {
        refuse: undefined,
        outputs: { packed: { tensor: each?.inputs.x, tolerance: "exact" } },
      });
    },
    "pack_seq/more-than-there-are",
  ],
])("%s: the case fails, exit code 1", (_, change, failing) => {
  const { folder, manifest, write } = copy();
  change(manifest);
  write();
  const { status, stdout } = run(folder);
  expect(stdout).toContain(`FAIL ${failing} wasm`);
  expect(stdout).toContain(`${manifest.case_count - 1} passed, 1 failed`);
  expect(status).toBe(1);
});
