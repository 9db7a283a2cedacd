// A program of one file has Dawn in it, and runs where there are no packages.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "lockstep-compiled-"));
afterAll(() => rmSync(folder, { recursive: true }));

/**
 * Compiles a program that opens the `webgpu` backend on software Vulkan, runs it elsewhere, and gives what it prints.
 */
function compiled(name: string, start: string): string {
  const root = join(import.meta.dir, "../../..");
  const entry = join(import.meta.dir, `${name}-${process.pid}.tmp.ts`);
  const program = `
import { openBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";
${start}
const heap = SharedHeap.create(1 << 20);
try {
  const backend = await openBackend("webgpu", { heap, adapter: "software" });
  const out = Tensor.empty(heap, "f32", [1, 3]);
  await backend.packSeq({ x: Tensor.from(heap, "f32", [3], [1, 2, 3]), lengths: [3], out });
  console.log(out.f32.join());
  await backend.close();
} catch (error) {
  console.log(String(error));
}`;
  const binary = join(folder, name);
  writeFileSync(entry, program);
  try {
    const build = spawnSync(process.execPath, ["build", "--compile", entry, "--outfile", binary], { cwd: root });
    if (build.status !== 0) throw new Error(String(build.stderr));
  } finally {
    rmSync(entry);
  }
  return spawnSync(binary, { cwd: folder, encoding: "utf8" }).stdout.trim();
}

test("linked, Dawn is in the file", () => {
  expect(compiled("linked", 'import { linkDawn } from "@lockstep/kernels/dawn";\nlinkDawn();')).toBe("1,2,3");
});

test("otherwise a program without packages is told how to install it, and how to link it", () => {
  expect(compiled("unlinked", "")).toMatch(
    /^BackendUnavailable: .*webgpu.* is not installed.*bun add webgpu, npm install webgpu.*linkDawn\(\)/,
  );
});
