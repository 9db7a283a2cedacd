// The conformance corpus: its bytes, what it says of every known mistake, and how this library does in it.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { BackendName } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { checkCorpus } from "../src/corpus/check-corpus.ts";
import { type CaseResults, judge } from "../src/corpus/judge.ts";
import { computed } from "../src/corpus/computed.ts";
import { readCorpus } from "../src/corpus/manifest.ts";
import { OPS } from "../src/corpus/ops.ts";
import { TOLERANCES } from "../src/corpus/tolerances.ts";
import { denoBinary } from "../../../scripts/deno-binary.ts";
import { corpusBuilder } from "./corpus/build-corpus.ts";
import type { Outputs } from "./corpus/corpus-values.ts";
import { FLOAT64_OPS } from "./corpus/float64-ops.ts";
import { MISTAKES } from "./corpus/mistakes.ts";

setDefaultTimeout(900_000);

const folder = fileURLToPath(new URL("../../../corpus/", import.meta.url));
const path = `${folder}manifest.json`;
const builder = corpusBuilder();

test("it is what `bun apps/goldens/test/corpus/generate.ts` writes, to the byte, and below 3 MiB", () => {
  const files = builder.build();
  let total = 0;
  for (const [name, bytes] of files) {
    const kept = readFileSync(`${folder}${name}`);
    expect([name, Buffer.compare(Buffer.from(bytes), kept)]).toEqual([name, 0]);
    total += bytes.length;
  }
  expect(total).toBeLessThan(3 << 20);
  const data = readdirSync(folder).filter((name) => /\.(json|safetensors)$/.test(name));
  expect(data.toSorted()).toEqual([...files.keys()].toSorted());
});

test("it has the same bytes in Deno", () => {
  const generate = fileURLToPath(new URL("./corpus/generate.ts", import.meta.url));
  const command = [denoBinary(), "run", "--allow-all", "--no-check", "--quiet", generate, "--check"];
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { timeout: 200_000 });
  expect([exitCode, stdout.toString(), stderr.toString()]).toEqual([0, expect.not.stringContaining("differ"), ""]);
});

test("every op and every tolerance has cases, and its README names every op", () => {
  const { cases } = readCorpus(path);
  const ops = new Set<string>(cases.map(({ op }) => op));
  expect([...ops].toSorted()).toEqual(Object.keys(OPS).toSorted());
  const tolerances = new Set<string>(cases.flatMap(({ outputs }) => [...outputs.values()].map((one) => one.tolerance)));
  expect([...tolerances].toSorted()).toEqual(Object.keys(TOLERANCES).toSorted());
  const readme = readFileSync(`${folder}README.md`, "utf8");
  for (const op of Object.keys(OPS)) expect(readme).toContain(`\`${op}\``);
});

describe("this library", () => {
  async function expectPassed(backend: BackendName, only: readonly string[]): Promise<void> {
    const { results } = await checkCorpus(path, { backends: [backend], adapter: "software", only });
    const asked = readCorpus(path).cases.filter(({ name }) => only.some((beginning) => name.startsWith(beginning)));
    expect(results.map((result) => result.case)).toEqual(asked.map(({ name }) => name));
    expect(asked.length).toBeGreaterThan(100);
    const failed = results.filter(({ deviation }) => !(deviation.worst <= 1));
    expect(failed.map((result) => [result.case, result.deviation.worst, ...result.mistakes])).toEqual([]);
  }

  test.each(["wasm", "reference"] as const)("passes every case on %s", (backend) => expectPassed(backend, [""]));

  // Worlds of GPUs are the matter of other tests; `bun run goldens corpus/manifest.json` has them all.
  test("passes the cases of kernels on webgpu", () =>
    expectPassed("webgpu", [
      "correct_attn_out/",
      "merge_attn_states/",
      "pack_seq/",
      "unpack_seq/",
      "partial_attention/",
    ]));
});

const heap = SharedHeap.create(64 << 20);

/** Outputs as an implementation that computes in f32 gives them. */
function rounded(outputs: Outputs): CaseResults {
  const entries = Object.entries(outputs).map(([name, { dtype, shape, numbers }]) => {
    const tensor = Tensor.from(heap, dtype, shape, numbers);
    const result = computed(tensor);
    tensor.free();
    return [name, result] as const;
  });
  return Object.fromEntries(entries);
}

describe("an implementation with the mistake", () => {
  const { cases } = readCorpus(path);
  const computes = cases.filter(({ refuse }) => refuse === undefined);

  /** The cases that an implementation fails, and what they say of it. */
  function failedWith(mistake: string | undefined): Map<string, readonly string[]> {
    const failed = new Map<string, readonly string[]>();
    for (const each of computes) {
      if (mistake !== undefined && !FLOAT64_OPS[each.op].mistakes.includes(mistake)) continue;
      const spec = builder.specs.get(each.name);
      if (spec === undefined) throw new Error(`${each.name} is not generated`);
      const outputs = FLOAT64_OPS[each.op].compute(spec.parameters, spec.inputs, mistake);
      const { deviation, mistakes } = judge(each, [rounded(outputs)]);
      if (!(deviation.worst <= 1)) failed.set(each.name, mistakes);
    }
    return failed;
  }

  const byResult = Object.keys(MISTAKES).filter((mistake) => mistake !== "bad-input-taken");
  test.each(byResult)("%s fails cases, nearly all of which name it, and one nothing else", (mistake) => {
    const failed = failedWith(mistake);
    expect(failed.size).toBeGreaterThan(0);
    expect([...failed.values()].some((named) => named.length === 1 && named[0] === mistake)).toBe(true);
    // What is off by little is right or wrong as the last digits fall: such a case lists no mistake.
    for (const [name, named] of failed) {
      if (named.length > 0) expect([name, named.includes(mistake)]).toEqual([name, true]);
    }
    const unnamed = [...failed.values()].filter((named) => named.length === 0).length;
    expect(unnamed).toBeLessThan(failed.size / 10);
  });

  test("none fails nothing", () => {
    expect(failedWith(undefined).size).toBe(0);
    expect(computes.length).toBeGreaterThan(200);
  });

  test("bad-input-taken: cases that must be refused are there for every kind of op", () => {
    const refusing = cases.filter(({ refuse }) => refuse !== undefined);
    const files = new Set(refusing.map(({ op }) => OPS[op].file));
    expect(files.size).toBe(new Set(Object.values(OPS).map(({ file }) => file)).size);
    expect(MISTAKES["bad-input-taken"]).toBeString();
  });
});
