import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, SharedHeap } from "@lockstep/tensor";
import { PARTIAL_ATTENTION_CASES } from "../ops/partial-attention/cases.ts";
import { partialAttentionReference } from "../ops/partial-attention/reference.ts";
import { expectClose, expectSameBits } from "../testing/close.ts";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software", subgroups: false });
afterAll(() => backend.close());

/** Every third case: compiling takes software Vulkan longer than running, and the other kernels use no subgroups. */
const cases = PARTIAL_ATTENTION_CASES.filter((_, index) => index % 3 === 0);

for (const item of cases) {
  test(`partialAttention without subgroups: ${item.name}`, async () => {
    const arenas = [new Arena(heap, 12 << 20), new Arena(heap, 12 << 20)] as const;
    const expected = item.build(arenas[0]);
    const actual = item.build(arenas[1]);
    partialAttentionReference(expected);
    await backend.partialAttention(actual);
    for (const output of ["out", "lse"] as const) {
      if (item.tolerance === "bits") expectSameBits(output, actual[output], expected[output]);
      else expectClose(output, actual[output], expected[output], item.tolerance);
    }
    for (const arena of arenas) arena.close();
  });
}

test("no kernel here asked for subgroups", () => {
  const kernels = backend.context.entries.filter((key) => key.startsWith("partial-attention"));
  expect(kernels.length).toBeGreaterThan(10);
  expect(kernels.filter((key) => !key.includes("no subgroups"))).toEqual([]);
});
