// What the corpus's README says of cases and features is so, and complete.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readCorpus } from "../src/corpus/manifest.ts";
import { OPS } from "../src/corpus/ops.ts";

const pathOf = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const readme = readFileSync(pathOf("corpus/README.md"), "utf8");
const { cases } = readCorpus(pathOf("corpus/manifest.json"));

test("every case that it names is there", () => {
  const named = [...readme.matchAll(/`(\w+)\/([\w*-]*)`/g)].filter(([, op = ""]) => op in OPS);
  expect(named.length).toBeGreaterThan(60);
  const missing = named.flatMap(([, op, rest = ""]) => {
    const pattern = new RegExp(`^${op}/${rest.replaceAll("*", ".*")}${rest === "" ? "" : "$"}`);
    return cases.some(({ name }) => pattern.test(name)) ? [] : [`${op}/${rest}`];
  });
  expect(missing).toEqual([]);
});

test("every option of DcpAttention is in a case, or named as left out", () => {
  const source = readFileSync(pathOf("libs/attention/src/options/dcp-attention-options.ts"), "utf8");
  const options = [...source.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, option = ""]) => option);
  expect(options.length).toBeGreaterThan(25);
  const features = readme.slice(readme.indexOf("## Which feature is in which case"), readme.indexOf("## The files"));
  expect(options.filter((option) => !features.includes(`\`${option}\``))).toEqual([]);
});

test("every parameter, input and output of the cases is explained", () => {
  const { cases: raw } = JSON.parse(readFileSync(pathOf("corpus/manifest.json"), "utf8")) as {
    cases: { parameters: object; inputs: object; outputs?: object }[];
  };
  const names = new Set(raw.flatMap((each) => [each.parameters, each.inputs, each.outputs ?? {}].flatMap(Object.keys)));
  expect(names.size).toBeGreaterThan(40);
  expect([...names].filter((name) => !readme.includes(`\`${name}\``))).toEqual([]);
});
