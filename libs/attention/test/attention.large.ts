// DcpAttention repeated until a rare order of the ranks would show: the same bits, close to float64.
import { describe, setDefaultTimeout, test } from "bun:test";
import { replayAndCheck, SHAPES } from "./attention-replay.ts";

setDefaultTimeout(1_800_000);

describe.each([1, 2, 3, 4, 5, 7, 8])("DCP attention over %d ranks", (size) => {
  test.each(SHAPES.map((shape) => [shape.name, shape] as const))("wasm: %s, 100 times", async (_, shape) => {
    await replayAndCheck(size, "wasm", shape, 100);
  });

  test.each(SHAPES.map((shape) => [shape.name, shape] as const))("webgpu shared: %s, 5 times", async (_, shape) => {
    await replayAndCheck(size, "webgpu shared", shape, 5);
  });
});
