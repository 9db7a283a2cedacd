// Several ranks with a GPU each: of queries only what a rank lacks goes up to its GPU, each byte once.
import { expect, setDefaultTimeout, test } from "bun:test";
import { headRange, openWorld } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type * as program from "./device-combine-program.ts";
import type { CombineCase } from "./device-combine-program.ts";

setDefaultTimeout(900_000);

/** Parameters of the kernels that put queries together. */
const SLACK = 2048;
/** Parameters of attention and combine of a half. */
const HALF_SLACK = 4096;
const STAGED_LIMIT = 1024;

const open = (size: number) =>
  openWorld<typeof program>({
    size,
    program: new URL("./device-combine-program.ts", import.meta.url),
    options: { backend: "webgpu invariant" },
    heapBytesPerRank: 16 << 20,
    stagedLimit: STAGED_LIMIT,
    deadlineMs: 500_000,
  });

/** Of as many heads that regions of them are not rounded up, or little by three ranks. */
const caseOf = (size: number, { partialDtype, outDtype }: Pick<CombineCase, "partialDtype" | "outDtype">) => {
  const heads = size === 3 ? 12 : 8;
  const rows = size === 8 ? { batch: 4, dim: 256 } : { batch: 6, dim: 128 };
  const of = { ...rows, heads, kvHeads: 1, withLse: false, combine: "a2a", partialDtype, outDtype } as const;
  const ownBytes = (rank: number): number =>
    of.batch * headRange(heads, rank, size).count * of.dim * DTYPE_BYTES[outDtype];
  const rounding = size === 3 ? (of.batch * heads * of.dim * DTYPE_BYTES[outDtype]) / 8 : 0;
  return { of, ownBytes, rounding };
};

test.each([
  [2, "f32"],
  [3, "f32"],
  [4, "f16"],
  [8, "f32"],
] as const)(
  "%d ranks, %s: queries on a GPU come down once, for the peers, and stay where they are",
  async (size, outDtype) => {
    await using world = await open(size);
    const { of, ownBytes, rounding } = caseOf(size, { partialDtype: "f16", outDtype });
    const whole = await world.call("run", [{ ...of, overlap: "off" }, "heap", "GPU"]);
    // Halves of 8 ranks would take software Vulkan minutes.
    for (const [overlap, submissions] of [["off", 1] as const, ...(size === 8 ? [] : [["on", 2] as const])]) {
      const inHeap = overlap === "off" ? whole : await world.call("run", [{ ...of, overlap }, "heap", "GPU"]);
      const onGpu = await world.call("run", [{ ...of, overlap }, "GPU", "GPU"]);
      for (const [rank, { calls, bytes, out, overlapped }] of inHeap.entries()) {
        const [found, own, uncut] = [onGpu[rank], ownBytes(rank), whole[rank]];
        // More than is staged, so that this is the way that it is for.
        expect(own).toBeGreaterThan(STAGED_LIMIT);
        expect(overlapped > 0).toBe(overlap === "on");
        const less = bytes.up - (found?.bytes.up ?? 0);
        expect(less).toBeLessThanOrEqual(own + rounding);
        expect(less).toBeGreaterThanOrEqual(own - rounding - SLACK);
        expect((found?.bytes.down ?? 0) - bytes.down).toBe(own);
        expect(calls).toMatchObject({ createBuffer: 0, createBindGroup: 0 });
        expect(found?.calls).toMatchObject({ createBuffer: 0, createBindGroup: 0 });
        expect([calls.submit, calls.mapAsync]).toEqual([submissions, submissions]);
        expect([found?.calls.submit, found?.calls.mapAsync]).toEqual([submissions + 1, submissions + 1]);
        // Halves take no byte up twice.
        expect(bytes.up).toBeLessThanOrEqual((uncut?.bytes.up ?? 0) + (submissions - 1) * HALF_SLACK);
        expect(found?.out).toEqual(out);
        expect(out).toEqual(uncut?.out ?? new Uint8Array());
      }
    }
  },
);
