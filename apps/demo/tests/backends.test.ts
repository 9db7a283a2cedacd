// The other backends generate the same tokens.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { legalSizes } from "./legal-sizes.ts";
import { differences, differencesTogether, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const sizes = legalSizes([1, 2, 4, 8]);
const webgpu = { backend: "webgpu", softwareVulkan: true } as const;

describe.each(["ag-rs", "a2a"] as const)("combine %s", (combine) => {
  // A group of one has nothing to combine: once is enough.
  const combining = sizes.filter(({ dcp }) => dcp > 1 || combine === "ag-rs");

  // The prompts are continued together: as many tokens as one by one, in a third of the steps.
  test.each(combining)("reference: TP$world DCP$dcp, KV heads $kvHeads", async (size) => {
    expect(await differencesTogether({ ...size, backend: "reference", combine }, shortPrompts, 4)).toEqual([]);
  });

  test.each(combining)("webgpu on software Vulkan: TP$world DCP$dcp, KV heads $kvHeads", async (size) => {
    expect(await differencesTogether({ ...size, ...webgpu, combine }, shortPrompts, 2)).toEqual([]);
  });
});

test("webgpu generates every short prompt, one by one", async () => {
  expect(await differences({ world: 2, ...webgpu }, shortPrompts, 8)).toEqual([]);
});
