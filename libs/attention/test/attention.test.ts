// DcpAttention over every number of ranks and backend, bit by bit the same each time. `attention.large.ts` repeats more
// often.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { replayAndCheck, type Shape, SHAPES } from "./attention-replay.ts";

setDefaultTimeout(180_000);

describe.each([1, 2, 3, 4, 8])("DCP attention over %d ranks", (size) => {
  test.each(SHAPES.map((shape) => [shape.name, shape] as const))("wasm: %s, repeated", async (_, shape) => {
    await replayAndCheck(size, "wasm", shape, 6);
  });

  test.each(SHAPES.map((shape) => [shape.name, shape] as const))("reference: %s", async (_, shape) => {
    await replayAndCheck(size, "reference", shape, 2);
  });
});

describe.each([1, 2, 3])("DCP attention over %d ranks on software Vulkan", (size) => {
  test.each(SHAPES.map((shape) => [shape.name, shape] as const))("webgpu: %s", async (_, shape) => {
    const separate = await replayAndCheck(size, "webgpu", shape, 2);
    // A rank alone has the same backend either way.
    if (size > 1) expect(await replayAndCheck(size, "webgpu shared", shape, 2)).toEqual(separate);
  });
});

describe.each(["f16", "bf16"] as const)("partial outputs in %s", (partialDtype) => {
  const [gqa, odd] = SHAPES as [Shape, Shape, ...Shape[]];

  test.each([1, 2, 3, 4, 8])("wasm, %d ranks", async (size) => {
    const shape = partialDtype === "f16" ? gqa : odd;
    const [chosen, auto] = await replayAndCheck(size, "wasm", shape, 5, partialDtype);
    expect(auto).toEqual(chosen);
    // Rounded indeed, unless a rank is alone and exchanges nothing.
    const [, unrounded] = await replayAndCheck(size, "wasm", shape, 1);
    if (size === 1) expect(chosen).toEqual(unrounded);
    else expect(chosen).not.toEqual(unrounded);
  });

  test("webgpu on software Vulkan, 3 ranks, apart and on one device", async () => {
    const separate = await replayAndCheck(3, "webgpu", odd, 2, partialDtype);
    expect(await replayAndCheck(3, "webgpu shared", odd, 2, partialDtype)).toEqual(separate);
  });

  test("reference, 2 ranks", async () => {
    await replayAndCheck(2, "reference", gqa, 2, partialDtype);
  });
});

describe.each([4, 8])("DCP attention over %d ranks of one device of software Vulkan", (size) => {
  test.each(SHAPES.map((shape) => [shape.name, shape] as const))("webgpu shared: %s", async (_, shape) => {
    await replayAndCheck(size, "webgpu shared", shape, 2);
  });
});
