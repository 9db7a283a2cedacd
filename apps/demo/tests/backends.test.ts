// The other backends generate the same tokens.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { legalSizes } from "./legal-sizes.ts";
import { differences, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const sizes = legalSizes([1, 2, 4, 8]);
const webgpu = { backend: "webgpu", softwareVulkan: true } as const;

describe.each(["ag-rs", "a2a"] as const)("combine %s", (combine) => {
  test.each(sizes)("reference: TP$world DCP$dcp, KV heads $kvHeads", async (size) => {
    expect(await differences({ ...size, backend: "reference", combine }, shortPrompts, 4)).toEqual([]);
  });

  test.each(sizes)("webgpu on software Vulkan: TP$world DCP$dcp, KV heads $kvHeads", async (size) => {
    expect(await differences({ ...size, ...webgpu, combine }, shortPrompts, 2)).toEqual([]);
  });
});

test("webgpu generates every short prompt", async () => {
  expect(await differences({ world: 2, ...webgpu }, shortPrompts, 8)).toEqual([]);
});
