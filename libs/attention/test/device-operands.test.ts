// DcpAttention over tensors of the GPU: the bits of heap tensors, and with one rank no download between the layers of a
// step.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./device-operands-program.ts";
import type { DeviceCase } from "./device-operands-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(240_000);

const open = (size: number, backend: TestBackend) =>
  openWorld<typeof program>({
    size,
    program: new URL("./device-operands-program.ts", import.meta.url),
    options: { backend },
    heapBytesPerRank: 16 << 20,
    deadlineMs: 120_000,
  });

/** Cases whose results can stay on the GPU of a rank that is alone. */
const STAYING: readonly DeviceCase[] = [
  { kvDtype: "f32" },
  { kvDtype: "f16", queryDtype: "f16", outDtype: "f16", withLse: true },
  { kvDtype: "f8e4m3", queryDtype: "bf16", outDtype: "bf16" },
];

/** Cases that need the host: what int8 stores is looked at, LSEs change their base, a prefill merges there. */
const COPIED: readonly DeviceCase[] = [
  { kvDtype: "i8", withLse: true },
  { kvDtype: "f32", withLse: true, lseBase: "2" },
  { kvDtype: "f32", withLse: true, prefillChunk: 8 },
];

test("one rank: a step of 5 layers maps nothing until its results are asked for", async () => {
  await using world = await open(1, "webgpu");
  for (const of of STAYING) {
    const [found] = await world.call("compare", [of]);
    expect(found).toEqual({ same: true, results: 3 * 5 * (of.withLse === true ? 2 : 1), maps: [5, 0] });
  }
});

describe("whatever has to go through the heap has the same bits", () => {
  test.each([1, 2, 3])("%d ranks", async (size) => {
    await using world = await open(size, size === 1 ? "webgpu" : "webgpu shared");
    for (const of of size === 1 ? COPIED : [...STAYING.slice(1, size), ...COPIED.slice(size - 2)]) {
      for (const { same } of await world.call("compare", [of])) expect([of, same]).toEqual([of, true]);
    }
    for (const said of await world.call("refuse", [])) {
      expect(said).toBe("NonFiniteKeyValue, NonFiniteKeyValue, 0 tokens");
    }
  });
});
