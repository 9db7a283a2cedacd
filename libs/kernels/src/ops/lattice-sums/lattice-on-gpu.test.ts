// World-invariant attention on a GPU, held to float64. Scores and exponentials are the GPU's, so that its integers are
// near those of the reference, not the same. Kernels are compiled for minutes on software, so that rows are chosen.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { webgpuBackendOn } from "../../backends/webgpu-backend.ts";
import { openGpuDevice } from "../../device/gpu-device.ts";
import { expectClose, expectSameBits, F32_TOLERANCE, HALF_INPUT_TOLERANCE } from "../../testing/close.ts";
import { contextPart } from "../../testing/attention-rows.ts";
import { testCases } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { attentionInputs } from "../attention-bounds/cases.ts";
import { attentionBoundsReference } from "../attention-bounds/reference.ts";
import { FINISH_LATTICE_CASES } from "../finish-lattice/cases.ts";
import { finishLatticeReference } from "../finish-lattice/reference.ts";
import { type AttentionRow, buildAttention, describeRow } from "../partial-attention/cases.ts";
import { partialAttentionReference } from "../partial-attention/reference.ts";
import { LATTICE_SUMS_CASES } from "./cases.ts";
import { isNotFinite, joinWords } from "./lattice.ts";
import { latticeSumsReference } from "./reference.ts";

setDefaultTimeout(300_000);

const heap = SharedHeap.create(64 << 20);
const adapter = process.env.LOCKSTEP_TEST_ADAPTER === "hardware" ? "hardware" : "software";
const backend = webgpuBackendOn(heap, await openGpuDevice({ adapter }));
afterAll(() => backend.close());

testCases(heap, [backend], {
  name: "finishLattice",
  cases: FINISH_LATTICE_CASES,
  outputs: (args) => [
    ["out", args.out],
    ["lse", args.lse],
  ],
  reference: finishLatticeReference,
  run: (on, args) => on.finishLattice(args),
});

/** Of a sum of this many units at most, 2^-26 of the largest term each, so many may be missing or too many. */
const UNITS = 512;

/** Integers of the sums. */
function integersOf(sums: Tensor): number[] {
  const words = sums.toNumbers();
  return Array.from({ length: words.length / 2 }, (_, at) => {
    const [low = 0, high = 0] = words.subarray(2 * at, 2 * at + 2);
    return isNotFinite(high) ? Number.NaN : joinWords(low, high);
  });
}

describe("latticeSums on webgpu is near the reference", () => {
  for (const { name, build } of LATTICE_SUMS_CASES.filter((_, index) => index % 4 === 0)) {
    test(name, async () => {
      const arena = new Arena(heap, 8 << 20);
      try {
        const [args, expected] = [build(arena), build(arena)];
        latticeSumsReference(expected);
        await backend.latticeSums(args);
        const wanted = integersOf(expected.sums);
        for (const [at, sum] of integersOf(args.sums).entries()) {
          expect(Math.abs(sum - (wanted[at] ?? Number.NaN))).toBeLessThanOrEqual(UNITS);
        }
        expect(wanted.length * 2).toBe(args.sums.size);
      } finally {
        arena.close();
      }
    });
  }
});

const SMALL = { heads: [4, 2], keyDim: 16, blockSize: 8 } as const;
const GROUPED = { heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "f16" } as const;
const shard = { index: 1, count: 2, interleave: 4 };
const ROWS: readonly AttentionRow[] = [
  { ...SMALL, lengths: [3, 0, 60, 17], padding: true, sinks: [1, -2, 30, Number.NEGATIVE_INFINITY] },
  { ...SMALL, lengths: [900] },
  { ...SMALL, lengths: [40, 33], queries: [4, 9], window: 7, softcap: 5, shuffled: true },
  { ...GROUPED, lengths: [130, 20], queries: [3, 1], shard },
  { ...GROUPED, lengths: [50], queryDType: "bf16", headGroup: { size: 6, offset: 3 } },
  { heads: [5, 1], keyDim: 7, valueDim: 5, blockSize: 4, dtype: "bf16", lengths: [37], queries: [2] },
  { heads: [8, 1], keyDim: 36, valueDim: 32, blockSize: 8, lengths: [20], queries: [3], mla: true },
  { heads: [4, 2], keyDim: 16, blockSize: 16, dtype: "i8", lengths: [70, 9], rowScales: true },
  { heads: [4, 2], keyDim: 19, valueDim: 5, blockSize: 4, dtype: "f8e4m3", lengths: [37], queries: [3] },
  { heads: [4, 2], keyDim: 16, valueDim: 0, blockSize: 8, lengths: [7] },
];

describe("world-invariant attention on webgpu agrees with attention in float64", () => {
  for (const [index, row] of ROWS.entries()) {
    test(describeRow(row), async () => {
      const arena = new Arena(heap, 16 << 20);
      try {
        const args = buildAttention(arena, row, new Random(300 + index));
        partialAttentionReference(args);
        const { query, out, lse } = args;
        const [tokens = 0, heads = 0] = query.shape;
        const inputs = attentionInputs(args);
        const tolerance =
          row.dtype === undefined && row.queryDType === undefined ? F32_TOLERANCE : HALF_INPUT_TOLERANCE;
        const [bounds, expected] = [0, 1].map(() => Tensor.empty(arena, "f32", [3, tokens, heads]).fill(Number.NaN));
        if (bounds === undefined || expected === undefined) throw new Error("no bounds");
        attentionBoundsReference({ ...inputs, bounds: expected });
        const sums = Tensor.empty(arena, "i32", [tokens, heads, out.dim(2) + 1, 2]).fill(-1);
        await backend.attentionBounds({ ...inputs, bounds });
        expectClose("bounds", bounds, expected, tolerance);
        await backend.latticeSums({ ...inputs, bounds, sums });
        const finish = (): { out: Tensor; lse: Tensor } => ({
          out: Tensor.empty(arena, "f32", out.shape).fill(Number.NaN),
          lse: Tensor.empty(arena, "f32", lse.shape).fill(Number.NaN),
        });
        const [onGpu, inFloat64] = [finish(), finish()];
        await backend.finishLattice({ bounds, sums, ...onGpu });
        finishLatticeReference({ bounds, sums, ...inFloat64 });
        for (const results of [onGpu, inFloat64]) {
          expectClose("out", results.out, out, tolerance);
          expectClose("lse", results.lse, lse, tolerance);
        }
        expect(lse.size).toBeGreaterThan(0);
      } finally {
        arena.close();
      }
    });
  }
});

test("parts of a context, by tensors on the GPU that are some tokens of more, give the bits of one call", async () => {
  const arena = new Arena(heap, 16 << 20);
  const row: AttentionRow = { ...SMALL, lengths: [70, 21], queries: [3, 2], sinks: [1, -2, 3, 0] };
  const args = buildAttention(arena, row, new Random(17));
  const { sinks, ...inputs } = attentionInputs(args);
  if (sinks === undefined) throw new Error("no sinks");
  const [tokens = 0, heads = 0] = args.query.shape;
  const bounds = Tensor.empty(arena, "f32", [3, tokens, heads]);
  const sums = Tensor.empty(arena, "i32", [tokens, heads, 17, 2]);
  await backend.attentionBounds({ ...inputs, sinks, bounds });
  await backend.latticeSums({ ...inputs, sinks, bounds, sums });

  const onGpu = backend.empty("f32", [3, tokens + 3, heads]);
  const someBounds = onGpu.slice(1, 2, tokens + 2);
  const allSums = backend.empty("i32", [tokens + 3, heads, 17, 2]);
  const someSums = allSums.slice(0, 1, tokens + 1);
  for (const pass of ["bounds", "sums"] as const) {
    for (let first = 0; first < 72; first += 24) {
      const part = { ...inputs, ...contextPart(arena, args, first, first + 24), ...(first === 0 ? { sinks } : {}) };
      const all = { ...part, bounds: someBounds, continues: first > 0 };
      if (pass === "bounds") await backend.attentionBounds(all);
      else await backend.latticeSums({ ...all, sums: someSums });
    }
  }
  const partBounds = Tensor.empty(arena, "f32", bounds.shape);
  const partSums = Tensor.empty(arena, "i32", sums.shape);
  await backend.download(someBounds, partBounds);
  await backend.download(someSums, partSums);
  expectSameBits("bounds", partBounds, bounds);
  expectSameBits("sums", partSums, sums);

  const results = (): { out: Tensor; lse: Tensor } => ({
    out: Tensor.empty(arena, "f32", args.out.shape),
    lse: Tensor.empty(arena, "f32", args.lse.shape),
  });
  const [whole, some] = [results(), results()];
  await backend.finishLattice({ bounds, sums, ...whole });
  await backend.finishLattice({ bounds: someBounds, sums: someSums, ...some });
  expectSameBits("out", some.out, whole.out);
  expectSameBits("lse", some.lse, whole.lse);
  const someHeads = onGpu.slice(2, 1, 3).slice(1, 0, tokens);
  expect(() => backend.finishLattice({ bounds: someHeads, sums: someSums.slice(1, 0, 2), ...some })).toThrow(
    ArgumentError,
  );
  onGpu.free();
  allSums.free();
  arena.close();
});
