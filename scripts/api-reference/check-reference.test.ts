// The check finds what is planted: each kind of gap, in a library of its own.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { entryPoints } from "./entry-points.ts";
import { findGaps } from "./find-gaps.ts";
import { installTypedoc, readReflections } from "./typedoc.ts";

setDefaultTimeout(120_000);

let root = "";
afterAll(() => rmSync(root, { recursive: true }));

function write(file: string, text: string): void {
  mkdirSync(join(root, file, ".."), { recursive: true });
  writeFileSync(join(root, file), text);
}

beforeAll(() => {
  installTypedoc();
  root = mkdtempSync(join(tmpdir(), "lockstep-gaps-"));
  const exports = {
    ".": { default: "./dist/index.js" },
    "./more": "./dist/deep/more.js",
    "./package.json": "./package.json",
  };
  write("libs/tensor/package.json", JSON.stringify({ name: "@lockstep/tensor", exports }));
  write("tsconfig.json", JSON.stringify({ compilerOptions: { module: "preserve", target: "esnext", types: [] } }));
  write(
    "libs/tensor/src/deep/more.ts",
    "/** More. @module @lockstep/tensor/more */\n/** Ours. */\nexport const more = 1;\n",
  );
});

const library = (source: string): string[] => {
  write("libs/tensor/src/index.ts", `/** The library. @module @lockstep/tensor */\n${source}\n`);
  return findGaps(readReflections(root), []);
};

test("modules are those that package.json exports, by their sources", () => {
  expect(entryPoints(root)).toEqual([
    { specifier: "@lockstep/tensor", source: "libs/tensor/src/index.ts" },
    { specifier: "@lockstep/tensor/more", source: "libs/tensor/src/deep/more.ts" },
  ]);
});

test("what is described has no gap", () => {
  const source = `
    /** A size, in bytes. */
    export interface Size {
      /** Bytes. */
      readonly bytes: number;
    }
    /** A box of \`count\` things. See {@link Size}. */
    export class Box {
      /** Makes room for \`count\`. */
      constructor(count: number) {}
      /** How large it is. */
      get size(): Size { return { bytes: 0 }; }
      #own = 1;
      private other = 2;
    }`;
  expect(library(source)).toEqual([]);
});

test("each kind of gap is found", () => {
  const source = `
    interface Hidden { readonly a: number }
    export interface Bare { readonly bytes: number }
    /** A function. {@link nowhere} */
    export function run(count: number, hidden: Hidden): void {}
    /** A class. */
    export class Box {
      constructor(readonly count: number) {}
      get size(): number { return 0; }
      open(): void {}
    }
    export type Text = string;`;
  const gaps = library(source).map((gap) => gap.replace(/ \([^)]*\)$/, ""));
  expect(gaps.sort()).toEqual([
    "broken link to nowhere: @lockstep/tensor.run",
    "no comment: @lockstep/tensor.Bare",
    "no comment: @lockstep/tensor.Bare.bytes",
    "no comment: @lockstep/tensor.Box.constructor",
    "no comment: @lockstep/tensor.Box.count",
    "no comment: @lockstep/tensor.Box.open",
    "no comment: @lockstep/tensor.Box.size",
    "no comment: @lockstep/tensor.Text",
    "no meaning of parameter `count`: @lockstep/tensor.Box.constructor",
    "no meaning of parameter `count`: @lockstep/tensor.run",
    "not exported: @lockstep/tensor/src/index.ts: Hidden, named by @lockstep/tensor.run.hidden",
  ]);
});

test("a type that is left unpublished and that nothing names any more is reported", () => {
  write("libs/tensor/src/index.ts", "/** The library. @module @lockstep/tensor */\nexport {};\n");
  expect(findGaps(readReflections(root), ["@lockstep/tensor/src/x.ts: X"])).toEqual([
    "unpublished.ts: nothing names @lockstep/tensor/src/x.ts: X any more",
  ]);
});
