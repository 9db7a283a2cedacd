// The check finds what is planted: each kind of wrong import, in a copy of the sources.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installTool, problems } from "./check-dependencies.ts";
import { EXCEPTIONS } from "./exceptions.ts";

setDefaultTimeout(120_000);

const root = fileURLToPath(new URL("../..", import.meta.url));
let copy = "";
afterAll(() => rmSync(copy, { recursive: true }));

beforeAll(() => {
  installTool();
  copy = mkdtempSync(join(tmpdir(), "lockstep-dependencies-"));
  const isSource = (path: string): boolean =>
    !/\/(node_modules|build|dist|model|goldens)$/.test(path) || /\/src\//.test(path);
  for (const folder of ["libs", "apps", "tests", "bench", "scripts", "examples"]) {
    cpSync(join(root, folder), join(copy, folder), { recursive: true, filter: isSource });
  }
  cpSync(join(root, "apps/goldens"), join(copy, "apps/goldens"), { recursive: true });
  for (const file of ["package.json", "tsconfig.json"]) cpSync(join(root, file), join(copy, file));
  mkdirSync(join(copy, "node_modules/@lockstep"), { recursive: true });
  for (const group of ["libs", "apps"]) {
    for (const name of readdirSync(join(copy, group))) {
      symlinkSync(join(copy, group, name), join(copy, "node_modules/@lockstep", name));
    }
  }
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (name !== "@lockstep") symlinkSync(join(root, "node_modules", name), join(copy, "node_modules", name));
  }
});

const plant = (file: string, line: string): void => appendFileSync(join(copy, file), `\n${line}\n`);

test("the sources keep the rules", () => {
  expect(problems(copy)).toEqual([]);
});

test("an exception that nothing needs any more is reported", () => {
  const gone = { from: "libs/tensor/src/shape.ts", to: "libs/tensor/src/tensor.ts" };
  expect(problems(copy, [...EXCEPTIONS, gone])).toEqual([
    "exceptions.ts: libs/tensor/src/shape.ts imports libs/tensor/src/tensor.ts no more: take it off the list",
  ]);
});

test("imports upwards, round in a circle, past exports, of tests and of Effect are found", () => {
  plant("libs/tensor/src/shape.ts", 'export type { KernelBackend } from "@lockstep/kernels";');
  plant("libs/tensor/src/float16.ts", 'export { float8ToNumber } from "./float8.ts";');
  plant("libs/tensor/src/float8.ts", 'import type {} from "./float16.ts";');
  plant("libs/language-model/src/layers/layers.ts", 'import "../model/json-file.ts";');
  plant("libs/attention/src/pack-seq.ts", 'import "../../kernels/src/operand.ts";');
  plant("libs/shared-gpu/src/verdicts.ts", 'import "../test/shared-backend-program.ts";');
  plant("libs/attention/src/head-layout.ts", 'import "@lockstep/shared-gpu";');
  plant("libs/dist-groups/src/world/liveness.ts", 'import "./effect.ts";');
  plant("libs/dist-groups/src/rank/rank-death.ts", 'import type * as Effect from "effect/Effect";');
  plant("apps/demo/src/progress.ts", 'import "./nowhere.ts";');
  mkdirSync(join(copy, "libs/new/src"), { recursive: true });
  writeFileSync(join(copy, "libs/new/src/index.ts"), "export {};\n");
  const found = problems(copy);
  for (const line of [
    "package-above: libs/tensor/src/shape.ts imports libs/kernels/src/index.ts",
    "undeclared: libs/tensor/src/shape.ts imports libs/kernels/src/index.ts",
    "circle: libs/tensor/src/float16.ts -> libs/tensor/src/float8.ts -> libs/tensor/src/float16.ts",
    "folder-above: libs/language-model/src/layers/layers.ts imports libs/language-model/src/model/json-file.ts",
    "past-exports: libs/attention/src/pack-seq.ts imports libs/kernels/src/operand.ts",
    "test-code: libs/shared-gpu/src/verdicts.ts imports libs/shared-gpu/test/shared-backend-program.ts",
    "package-above: libs/attention/src/head-layout.ts imports libs/shared-gpu/src/index.ts",
    "loads-effect: libs/dist-groups/src/world/liveness.ts imports libs/dist-groups/src/world/effect.ts",
    "package without a place in layers.ts: libs/new",
  ]) {
    expect(found).toContain(line);
  }
  const loadsEffect = "loads-effect: libs/dist-groups/src/rank/rank-death.ts imports ";
  expect(found.filter((line) => line.startsWith(loadsEffect) && line.includes("/effect/")).length).toBe(1);
  expect(found.filter((line) => line.startsWith("unresolved: apps/demo/src/progress.ts")).length).toBe(1);
});
