// All 96 reference tokens, of short and long prompts, on every world, layout, combine and backend.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { legalSizes } from "./legal-sizes.ts";
import { differences, differencesTogether, longPrompt, mediumPrompt, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(1_800_000);

const COMBINES = ["ag-rs", "a2a", "one-shot"] as const;
const WORLDS = [1, 2, 3, 4, 8] as const;
const webgpu = { backend: "webgpu", softwareVulkan: true, sharedGpu: true } as const;

describe.each(legalSizes(WORLDS))("TP$world DCP$dcp, KV heads $kvHeads", (size) => {
  test.each(COMBINES)("wasm, combine %s", async (combine) => {
    expect(await differences({ ...size, backend: "wasm", combine }, shortPrompts, 96)).toEqual([]);
  });

  test.each(COMBINES)("reference, combine %s", async (combine) => {
    expect(await differencesTogether({ ...size, backend: "reference", combine }, shortPrompts, 16)).toEqual([]);
  });

  test("webgpu on software Vulkan", async () => {
    expect(await differencesTogether({ ...size, ...webgpu }, shortPrompts, 16)).toEqual([]);
  });
});

describe.each(WORLDS)("long prompts on %d ranks", (world) => {
  test.each([1, 16])("1115 tokens, interleave %d", async (interleave) => {
    expect(await differences({ world, dcp: world, backend: "wasm", interleave }, mediumPrompt, 96)).toEqual([]);
  });

  test("4286 tokens", async () => {
    expect(await differences({ world, dcp: world, backend: "wasm" }, longPrompt, 96)).toEqual([]);
  });
});
