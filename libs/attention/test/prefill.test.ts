import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld, type ParallelSizes, parallelGroups } from "@lockstep/dist-groups";
import { expectNear, prepareCase } from "./feature-cases.ts";
import { PREFILL_CASES, PREFILL_STEPS } from "./prefill-cases.ts";
import type * as program from "./prefill-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(180_000);

async function checkPrefill(
  sizes: ParallelSizes,
  backend: TestBackend,
  chunkSizes: readonly number[],
  cases = PREFILL_CASES,
  kvHeads: "head-sharded" | "replicated" = "replicated",
): Promise<void> {
  const { worldSize, kv, query, pcp, kvShards } = parallelGroups(sizes);
  await using world = await openWorld<typeof program>({
    size: worldSize,
    program: new URL("./prefill-program.ts", import.meta.url),
    options: { backend },
    // On GPUs every query goes straight from where it lies to where it goes up from; elsewhere small ones are staged.
    ...(backend === "webgpu" ? { stagedLimit: 0 } : {}),
    groups: { kv, query, pcp },
    deadlineMs: 60_000,
  });
  for (const [index, item] of cases.entries()) {
    const prepared = prepareCase(item, world.heap, 300 + index);
    const { replay, out, lse } = prepared;
    const rows = PREFILL_STEPS.flat().reduce((sum, tokens) => sum + tokens, 0);
    for (const prefillChunk of chunkSizes) {
      const results: Buffer[] = [];
      // The same bits again, and nothing leaked, are shown once a case; that chunks of other sizes are right, each
      // time.
      const runs = prefillChunk === chunkSizes[0] ? 2 : 1;
      for (let repeat = 0; repeat < runs; repeat++) {
        out.fill(Number.NaN);
        lse.fill(Number.NaN);
        const { options: sent, ...run } = replay;
        const { interleave = 1, window, softcap, mla, kvScales } = sent;
        const options = {
          interleave,
          ...(window === undefined ? {} : { window }),
          ...(softcap === undefined ? {} : { softcap }),
          ...(mla === undefined ? {} : { mla }),
          ...(kvScales === undefined ? {} : { kvScales }),
        };
        const held = await world.call("run", [{ ...run, prefills: 2, prefillChunk, sizes, kv: kvHeads, options }]);
        results.push(Buffer.concat([out.bytes, lse.bytes]));
        // A backend keeps its scratch memory, which may grow in the first run.
        if (repeat > 0) expect(held.every(({ leaked }) => leaked === 0)).toBe(true);
        for (const group of kv) {
          expect(group.length).toBe(kvShards);
          expect(group.reduce((sum, rank) => sum + (held[rank]?.tokensHeld ?? 0), 0)).toBe(rows);
        }
      }
      for (const again of results.slice(1)) expect(Buffer.compare(results[0] ?? Buffer.alloc(0), again)).toBe(0);
      const tolerance = item.kvDtype === undefined ? 1e-5 : 1e-4;
      expectNear(`${item.name}, chunks of ${prefillChunk}, out`, out, prepared.expectedOut, tolerance);
      expectNear(`${item.name}, chunks of ${prefillChunk}, lse`, lse, prepared.expectedLse, tolerance);
    }
    prepared.free();
  }
}

const classic = (tp: number, dcp: number, pcp = 1): ParallelSizes => ({ layout: "classic", tp, pcp, dcp });
const orthogonal = (tp: number, pcp: number, dcp: number): ParallelSizes => ({ layout: "orthogonal", tp, pcp, dcp });
const nameOf = ({ layout, tp, pcp, dcp }: ParallelSizes): string => `${layout} TP${tp} PCP${pcp ?? 1} DCP${dcp}`;

describe("prefill over a sharded KV cache, then decoding, any chunk size", () => {
  const sizes = [classic(1, 1), classic(2, 2), classic(3, 3), classic(4, 4), classic(4, 2), classic(8, 8)];
  test.each(sizes.map((each) => [nameOf(each), each] as const))("wasm, %s", (_, each) =>
    checkPrefill(each, "wasm", [1, 9, 16, 1000]),
  );
  test("reference, classic TP2 DCP2", () => checkPrefill(classic(2, 2), "reference", [8]));
  const gpus = ["webgpu", "webgpu shared", "webgpu invariant", "webgpu shared invariant", "webgpu and wasm"] as const;
  test.each(gpus)("%s on software Vulkan, classic TP2 DCP2", (backend) =>
    checkPrefill(classic(2, 2), backend, [16], [...PREFILL_CASES.slice(0, 1), ...PREFILL_CASES.slice(3, 4)]),
  );
});

describe("head-sharded KV heads", () => {
  // 8 query heads over 2 KV heads: the ranks of a DCP group share one, or each rank stores its own.
  const sizes = [classic(4, 2), classic(8, 4), classic(8, 2), classic(2, 1), classic(4, 2, 2), orthogonal(2, 2, 2)];
  test.each(sizes.map((each) => [nameOf(each), each] as const))("wasm, %s", (_, each) =>
    checkPrefill(each, "wasm", [10], [...PREFILL_CASES.slice(0, 1), ...PREFILL_CASES.slice(3, 4)], "head-sharded"),
  );
});

describe("prefill context parallelism, with DCP inside and beside it", () => {
  const sizes = [
    classic(1, 1, 2),
    classic(2, 2, 2),
    classic(2, 1, 2),
    classic(4, 2, 2),
    classic(1, 1, 3),
    orthogonal(2, 2, 1),
    orthogonal(2, 2, 2),
    orthogonal(2, 2, 4),
    orthogonal(1, 3, 3),
    orthogonal(4, 2, 8),
    orthogonal(4, 2, 2),
  ];
  test.each(sizes.map((each) => [nameOf(each), each] as const))("wasm, %s", (_, each) =>
    checkPrefill(each, "wasm", [7, 1000]),
  );
  const own = [classic(3, 3), classic(1, 1, 2), classic(2, 2, 2), orthogonal(1, 3, 3), orthogonal(4, 2, 8)];
  test.each(own.map((each) => [nameOf(each), each] as const))("wasm, memories of the ranks' own, %s", (_, each) =>
    checkPrefill(each, "wasm own", [7]),
  );
  test("webgpu on software Vulkan, classic TP1 PCP2 DCP1", () =>
    checkPrefill(classic(1, 1, 2), "webgpu", [16], PREFILL_CASES.slice(1, 2)));
  test("webgpu shared on software Vulkan, orthogonal TP2 PCP2 DCP2", () =>
    checkPrefill(orthogonal(2, 2, 2), "webgpu shared", [7], PREFILL_CASES.slice(3, 4)));
  test("webgpu shared on software Vulkan, memories of the ranks' own, orthogonal TP2 PCP2 DCP2", () =>
    checkPrefill(orthogonal(2, 2, 2), "webgpu shared own", [7], PREFILL_CASES.slice(3, 4)));
});
