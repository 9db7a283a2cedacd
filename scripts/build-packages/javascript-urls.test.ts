import { expect, test } from "bun:test";
import { withJavaScriptImports, withJavaScriptUrls } from "./javascript-urls.ts";

test("URLs of modules name what they are built to, and are listed; others stay", () => {
  const code =
    'new Worker(new URL("../rank/rank.ts", import.meta.url)); new URL("./a.json", import.meta.url); "./x.ts"';
  expect(withJavaScriptUrls(code)).toEqual({
    code: code.replace("rank.ts", "rank.js"),
    files: ["../rank/rank.js"],
  });
});

test("declarations import .js, in every form of an import", () => {
  const declarations = [
    'import type { A } from "./a.ts";',
    'export * from "../b/c.ts";',
    'type D = import("./d.ts").D;',
    'import "./e.ts";',
    'import type { F } from "@lockstep/tensor";',
  ];
  expect(withJavaScriptImports(declarations.join("\n"))).toBe(declarations.join("\n").replaceAll('.ts"', '.js"'));
});
