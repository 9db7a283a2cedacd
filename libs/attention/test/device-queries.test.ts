// Several ranks with a GPU each: of queries only what a rank lacks goes up to its GPU, each byte once.
import { expect, setDefaultTimeout, test } from "bun:test";
import { headRange, openWorld } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type * as program from "./device-combine-program.ts";
import type { CombineCase } from "./device-combine-program.ts";

setDefaultTimeout(300_000);

/** Parameters of the kernels that put queries together. */
const SLACK = 2048;

test.each([2, 3, 4])(
  "%d ranks: queries on a GPU come down once, for the peers, and stay where they are",
  async (size) => {
    await using world = await openWorld<typeof program>({
      size,
      program: new URL("./device-combine-program.ts", import.meta.url),
      options: { backend: "webgpu" },
      heapBytesPerRank: 16 << 20,
      stagedLimit: 8192,
      deadlineMs: 120_000,
    });
    // Of as many heads that regions of them are not rounded up.
    const of: CombineCase = {
      batch: 16,
      heads: size === 3 ? 24 : 32,
      kvHeads: 1,
      dim: 64,
      partialDtype: "f16",
      outDtype: "f32",
      withLse: false,
      combine: "a2a",
    };
    const inHeap = await world.call("run", [of, "heap", "GPU"]);
    const onGpu = await world.call("run", [of, "GPU", "GPU"]);
    for (const [rank, { calls, bytes, out }] of inHeap.entries()) {
      const [found, own] = [onGpu[rank], headRange(of.heads, rank, size).count];
      const ownBytes = of.batch * own * of.dim * DTYPE_BYTES[of.outDtype];
      // More than is staged, so that this is the way that it is for.
      expect(ownBytes).toBeGreaterThan(8192);
      const less = bytes.up - (found?.bytes.up ?? 0);
      expect(less).toBeLessThanOrEqual(ownBytes);
      expect(less).toBeGreaterThanOrEqual(ownBytes - SLACK);
      expect((found?.bytes.down ?? 0) - bytes.down).toBe(ownBytes);
      expect(calls).toMatchObject({ submit: 1, mapAsync: 1, createBuffer: 0, createBindGroup: 0 });
      expect(found?.calls).toMatchObject({ submit: 2, mapAsync: 2, createBuffer: 0, createBindGroup: 0 });
      expect(found?.out).toEqual(out);
    }
  },
);
