// The other backends generate the same tokens.
import { describe, expect, test } from "bun:test";
import { differences, shortPrompts } from "./shipped-model.ts";

describe.each(["ag-rs", "a2a"] as const)("combine %s", (combine) => {
  test.each([1, 2, 4])("reference, %d ranks", async (world) => {
    expect(await differences({ world, backend: "reference", combine }, shortPrompts, 12)).toEqual([]);
  });

  test.each([1, 2, 4])("webgpu on software Vulkan, %d ranks", async (world) => {
    const options = { world, backend: "webgpu", softwareVulkan: true, combine } as const;
    expect(await differences(options, shortPrompts, 8)).toEqual([]);
  });
});

test("webgpu with KV heads sharded", async () => {
  const options = { world: 4, dcp: 2, kvHeads: "sharded", backend: "webgpu", softwareVulkan: true } as const;
  expect(await differences(options, shortPrompts, 8)).toEqual([]);
});
