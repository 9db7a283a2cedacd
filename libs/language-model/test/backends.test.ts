// The other backends generate the same tokens.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { legalSizes } from "./legal-sizes.ts";
import { differences, differencesTogether, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const COMBINES = ["ag-rs", "a2a"] as const;
const sizes = legalSizes([1, 2, 4, 8]);
const webgpu = { backend: "webgpu", softwareVulkan: true } as const;

// The prompts are continued together: as many tokens as one by one, in a third of the steps. Each layout by one combine
// in turn.
test.each(sizes.map((size, index) => ({ ...size, combine: COMBINES[index % 2] ?? "a2a" })))(
  "reference: TP$world DCP$dcp, KV heads $kvHeads, combine $combine",
  async (size) => {
    expect(await differencesTogether({ ...size, backend: "reference" }, shortPrompts, 4)).toEqual([]);
  },
);

describe("webgpu on software Vulkan", () => {
  // Compiling on a device for each of many ranks would take most of the time here: 8 ranks share one, and some worlds
  // of 4. Partial outputs are combined by the wasm backend, in tests of its own: of 8 ranks those that split tokens
  // most and least, and each layout by one combine in turn.
  const spread = sizes.filter(
    ({ world, dcp, kvHeads }) => world < 8 || dcp === 8 || (dcp !== 2 && kvHeads === "sharded"),
  );
  const cases = spread.map((size, index) => ({ ...size, combine: COMBINES[index % 2] ?? "a2a" }));
  test.each(cases)("TP$world DCP$dcp, KV heads $kvHeads, combine $combine", async (size) => {
    const sharedGpu = size.world === 8 || (size.world === 4 && size.kvHeads === "sharded");
    expect(await differencesTogether({ ...size, ...webgpu, sharedGpu }, shortPrompts, 2)).toEqual([]);
  });
});

test.each([
  { world: 4, dcp: 4, gpus: 1 },
  { world: 4, dcp: 2, gpus: 2 },
  { world: 3, dcp: 1, gpus: 2 },
] as const)("webgpu with a device for the ranks of each GPU: TP$world DCP$dcp on $gpus", async (size) => {
  expect(await differencesTogether({ ...size, ...webgpu, sharedGpu: true }, shortPrompts, 2)).toEqual([]);
});

test("webgpu generates every short prompt, one by one", async () => {
  expect(await differences({ world: 2, ...webgpu }, shortPrompts, 8)).toEqual([]);
});
