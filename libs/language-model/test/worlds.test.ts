// Every world, legal DCP, KV-head layout and combine generates what Hugging Face transformers does; longer in
// `worlds.large.ts`.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { legalSizes } from "./legal-sizes.ts";
import { differences, longPrompt, mediumPrompt, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const COMBINES = ["ag-rs", "a2a", "one-shot"] as const;

/** The sizes that divide evenly, and 3 ranks, where heads, columns and vocabulary do not. */
const sizes = legalSizes([1, 2, 3, 4, 8]);

test("the legal combinations are the ones we know", () => {
  const names = sizes.map(({ world, dcp, kvHeads }) => `${world}/${dcp}${kvHeads === "sharded" ? "s" : ""}`);
  expect(names.join(" ")).toBe("1/1 2/1 2/1s 2/2 3/1 3/3 4/1 4/1s 4/2 4/2s 4/4 8/1 8/1s 8/2 8/2s 8/4 8/4s 8/8");
});

// Each size by one combine in turn; `worlds.large.ts` has every pair.
test.each(sizes.map((size, index) => ({ ...size, combine: COMBINES[index % COMBINES.length] ?? "a2a" })))(
  "TP$world DCP$dcp, KV heads $kvHeads, combine $combine",
  async (options) => {
    expect(await differences({ ...options, backend: "wasm" }, shortPrompts, 10)).toEqual([]);
  },
);

describe("24 tokens of every short prompt", () => {
  test.each([1, 2, 4])("%d ranks", async (world) => {
    expect(await differences({ world, backend: "wasm" }, shortPrompts, 24)).toEqual([]);
  });
});

test.each([
  [1, 8],
  [4, 8],
  [8, 8],
  [1, 1],
])("interleave %d in blocks of %d", async (interleave, blockSize) => {
  const options = { world: 4, dcp: 4, backend: "wasm", interleave, blockSize } as const;
  expect(await differences(options, shortPrompts, 16)).toEqual([]);
});

test("6 ranks in DCP groups of 3 that share a KV head", async () => {
  const options = { world: 6, dcp: 3, kvHeads: "sharded", backend: "wasm" } as const;
  expect(await differences(options, shortPrompts, 16)).toEqual([]);
});

test.each([1, 5])("prompts prefilled %d tokens at a time", async (maxStepTokens) => {
  expect(await differences({ world: 2, backend: "wasm", maxStepTokens }, shortPrompts, 16)).toEqual([]);
});

test.each(["f16", "bf16"] as const)("KV in %s keeps the text of the sure prompts", async (kvDtype) => {
  expect(await differences({ world: 2, backend: "wasm", kvDtype }, shortPrompts.slice(0, 2), 24)).toEqual([]);
});

describe("long prompts", () => {
  test("1115 tokens on 4 ranks, KV heads sharded, interleave 16", async () => {
    const options = { world: 4, dcp: 2, kvHeads: "sharded", backend: "wasm", interleave: 16 } as const;
    expect(await differences(options, mediumPrompt, 24)).toEqual([]);
  });
  test("4286 tokens on 4 ranks", async () => {
    expect(await differences({ world: 4, dcp: 4, backend: "wasm" }, longPrompt, 24)).toEqual([]);
  });
});
