// Several ranks whose partial results are combined on their GPUs: only the heads that peers own come down.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { headRange, openWorld } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type * as program from "./device-combine-program.ts";
import type { CombineCase, CombineResult } from "./device-combine-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(900_000);

const open = (size: number, backend: TestBackend) =>
  openWorld<typeof program>({
    size,
    program: new URL("./device-combine-program.ts", import.meta.url),
    options: { backend },
    // Odd sizes of queries too go straight to where they go up from.
    ...(backend === "webgpu" ? { stagedLimit: 0 } : {}),
    heapBytesPerRank: 16 << 20,
    // Software Vulkan takes minutes where others keep the machine busy.
    deadlineMs: 600_000,
  });

const F32 = { partialDtype: "f32", outDtype: "f32" } as const;
/** Odd sizes, a sequence without tokens, fewer heads than ranks, and each dtype in which partial outputs go. */
const CASES: readonly CombineCase[] = [
  { batch: 5, heads: 6, kvHeads: 2, dim: 7, ...F32, withLse: true, combine: "a2a" },
  { batch: 1, heads: 8, kvHeads: 4, dim: 32, ...F32, withLse: false, combine: "a2a" },
  { batch: 3, heads: 8, kvHeads: 1, dim: 16, partialDtype: "f16", outDtype: "f16", withLse: true, combine: "a2a" },
  { batch: 4, heads: 5, kvHeads: 1, dim: 12, partialDtype: "bf16", outDtype: "bf16", withLse: false, combine: "auto" },
  { batch: 2, heads: 2, kvHeads: 1, dim: 5, ...F32, withLse: true, combine: "a2a" },
  { batch: 3, heads: 7, kvHeads: 1, dim: 6, ...F32, withLse: false, combine: "a2a", gatherDtype: "f8e4m3" },
  { batch: 3, heads: 8, kvHeads: 2, dim: 8, ...F32, withLse: true, combine: "a2a", queryReplicated: true },
];

const PLACES = [
  ["heap", "heap"],
  ["heap", "GPU"],
  ["GPU", "GPU"],
  ["GPU, strided", "GPU"],
] as const;

/** Bytes of alignment around a part that goes to or from a GPU. */
const SLACK = 512;

const bits = (results: readonly CombineResult[]): Uint8Array[] => results.flatMap(({ out, lse }) => [out, lse]);

const followed = (results: readonly CombineResult[]): number[][] => results.map((result) => result.followed);

describe.each([
  ["a device for each rank", "webgpu", [2, 3]],
  ["one device for all", "webgpu shared", [2, 3, 4, 8]],
] as const)("%s", (_, backend, sizes) => {
  test.each(sizes)("%d ranks: the same bits wherever queries and results lie, and nothing is lost", async (size) => {
    await using world = await open(size, backend);
    // Each shape by some number of ranks, and each number of ranks by some shapes.
    for (const of of CASES.filter(
      (of, index) => of.queryReplicated === true || (index + size) % (backend === "webgpu" ? 2 : 3) === 0,
    )) {
      const inHeap = await world.call("run", [of, "heap", "heap"]);
      expect(bits(await world.call("run", [of, "heap", "heap"]))).toEqual(bits(inHeap));
      for (const [queries, results] of PLACES.slice(1)) {
        const got = await world.call("run", [of, queries, results]);
        expect([of, queries, bits(got)]).toEqual([of, queries, bits(inHeap)]);
        expect([of, queries, followed(got)]).toEqual([of, queries, followed(inHeap)]);
      }
      expect(inHeap.flatMap(({ values }) => values).every(Number.isFinite)).toBe(true);
    }
    // What ranks tell the owner of a shared device lies in memory that grows.
    if (backend === "webgpu") expect(await world.call("lost", [])).toEqual(new Array(size).fill(0));
  });
});

test("3 ranks have the bits of ranks that share a device, and the values of float arithmetic on the CPU", async () => {
  const size = 3;
  await using apart = await open(size, "webgpu");
  await using together = await open(size, "webgpu shared");
  await using cpus = await open(size, "wasm");
  // Each dtype in which queries and partial outputs go, odd sizes, and queries that are not gathered.
  for (const of of CASES.filter((_, index) => index !== 1 && index !== 4)) {
    const got = await apart.call("run", [{ ...of, combine: "a2a" }, "heap", "GPU"]);
    expect([of, bits(await together.call("run", [of, "GPU", "GPU"]))]).toEqual([of, bits(got)]);
    const values = got.flatMap((rank) => rank.values);
    const wanted = (await cpus.call("run", [of, "heap", "heap"])).flatMap((rank) => rank.values);
    const tolerance = of.partialDtype === "f32" ? 1e-5 : of.partialDtype === "f16" ? 4e-3 : 3e-2;
    expect(values.length).toBe(wanted.length);
    for (const [index, value] of wanted.entries()) {
      expect(Math.abs((values[index] ?? Number.NaN) - value)).toBeLessThanOrEqual(tolerance * (1 + Math.abs(value)));
    }
  }
});

// Software Vulkan compiles every kernel for each device.
test.each([
  [2, ["f32", "f16"]],
  [3, ["f16"]],
  [4, ["f32"]],
  [8, ["f16"]],
] as const)(
  "%d ranks with a device each bring down what peers own, once, and make nothing",
  async (size, partialDtypes) => {
    await using world = await open(size, "webgpu");
    const of: CombineCase = { batch: 4, heads: 12, kvHeads: 1, dim: 128, ...F32, withLse: false, combine: "a2a" };
    for (const partialDtype of partialDtypes) {
      const outDtype = partialDtype;
      for (const [rank, { calls, bytes }] of (
        await world.call("run", [{ ...of, partialDtype, outDtype }, "heap", "GPU"])
      ).entries()) {
        const own = headRange(of.heads, rank, size).count;
        const rowBytes = of.batch * (of.dim * DTYPE_BYTES[partialDtype] + 4);
        const down = (of.heads - own) * rowBytes;
        expect(bytes.down).toBeGreaterThanOrEqual(down);
        expect(bytes.down).toBeLessThanOrEqual(down + 2 * size * SLACK);
        // Queries of all heads, and of this rank's heads what the peers computed; the rest are parameters.
        const up = of.batch * of.heads * of.dim * DTYPE_BYTES[outDtype] + (size - 1) * own * rowBytes;
        expect(bytes.up).toBeGreaterThanOrEqual(up);
        expect(bytes.up).toBeLessThanOrEqual(up + own * rowBytes + (8 + 4 * size) * SLACK);
        expect(calls).toMatchObject({ mapAsync: 1, createBuffer: 0, createBindGroup: 0, createComputePipeline: 0 });
        expect(calls.submit).toBeLessThanOrEqual(2);
      }
    }
  },
);

test.each([
  [2, ["f32", "f16"]],
  [3, ["f16"]],
  [4, ["f32", "f16"]],
  [8, ["f32"]],
] as const)(
  "%d ranks that share a device: nothing crosses the host but what is wanted there",
  async (size, partialDtypes) => {
    await using world = await open(size, "webgpu shared");
    const of: CombineCase = { batch: 8, heads: 12, kvHeads: 1, dim: 64, ...F32, withLse: true, combine: "auto" };
    for (const partialDtype of partialDtypes) {
      const step = { ...of, partialDtype, outDtype: partialDtype };
      const kept = await world.call("run", [step, "GPU", "GPU"]);
      for (const [rank, { calls, bytes }] of kept.entries()) {
        // The last step waits for the download behind it.
        expect(calls).toMatchObject({ mapAsync: 0, createBuffer: 0, createBindGroup: 0, createComputePipeline: 0 });
        expect(calls.submit).toBeLessThanOrEqual(rank === 0 ? 1 : 0);
        expect(bytes.down).toBe(0);
      }
      const wanted = await world.call("run", [step, "heap", "heap"]);
      const bytesOf = (heads: number): number => of.batch * heads * (of.dim * DTYPE_BYTES[partialDtype] + 4);
      for (const [rank, { calls, bytes, dispatches }] of wanted.entries()) {
        const once = rank === 0 ? 1 : 0;
        // The holder's queries, the others' at once, attention of each rank, one merge for all with as many heads.
        const kinds = of.heads % size === 0 ? 1 : 2;
        if (partialDtype === "f32") expect(dispatches).toBe(once * (1 + kinds + size + kinds));
        expect(calls).toMatchObject({ submit: once, mapAsync: once, createBuffer: 0, createBindGroup: 0 });
        expect(bytes.down).toBeGreaterThanOrEqual(once * bytesOf(of.heads));
        expect(bytes.down).toBeLessThanOrEqual(once * (bytesOf(of.heads) + 2 * size * SLACK));
      }
      expect(bits(kept)).toEqual(bits(wanted));
    }
  },
);
