// The other backends generate the same tokens.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { legalSizes } from "./legal-sizes.ts";
import { differences, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const sizes = legalSizes([1, 2, 4]);
const webgpu = { backend: "webgpu", softwareVulkan: true } as const;

describe.each(["ag-rs", "a2a"] as const)("combine %s", (combine) => {
  test.each(sizes)("reference: TP$world DCP$dcp, KV heads $kvHeads", async (size) => {
    expect(await differences({ ...size, backend: "reference", combine }, shortPrompts, 4)).toEqual([]);
  });

  // With a DCP of 1 there is nothing to combine: once is enough.
  const combining = sizes.filter(({ dcp }) => dcp > 1 || combine === "a2a");
  test.each(combining)("webgpu on software Vulkan: TP$world DCP$dcp, KV heads $kvHeads", async (size) => {
    expect(await differences({ ...size, ...webgpu, combine }, shortPrompts.slice(0, 1), 3)).toEqual([]);
  });
});

test("webgpu generates every short prompt", async () => {
  expect(await differences({ world: 2, ...webgpu }, shortPrompts, 8)).toEqual([]);
});

describe("8 ranks", () => {
  test("reference", async () => {
    expect(await differences({ world: 8, backend: "reference" }, shortPrompts, 8)).toEqual([]);
  });

  test("webgpu on software Vulkan", async () => {
    const options = { world: 8, dcp: 4, kvHeads: "sharded", ...webgpu } as const;
    expect(await differences(options, shortPrompts.slice(0, 1), 2)).toEqual([]);
  });
});
