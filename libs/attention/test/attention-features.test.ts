import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Combine } from "@lockstep/attention";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./attention-program.ts";
import type { TestBackend } from "./test-backend.ts";
import { DECODE_CASES } from "./decode-cases.ts";
import { expectNear, prepareCase } from "./feature-cases.ts";

setDefaultTimeout(180_000);

const COMBINES: readonly (Combine | "auto")[] = ["ag-rs", "a2a", "one-shot", "auto"];

async function checkFeatures(size: number, backend: TestBackend, repeats: number, chosen = /./): Promise<void> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./attention-program.ts", import.meta.url),
    options: { backend },
    // On GPUs every query goes straight from where it lies to where it goes up from; elsewhere small ones are staged.
    ...(backend === "webgpu" ? { stagedLimit: 0 } : {}),
    deadlineMs: 60_000,
  });
  for (const [index, item] of DECODE_CASES.entries()) {
    if (!chosen.test(item.name)) continue;
    const prepared = prepareCase(item, world.heap, 100 + index);
    const { replay, out, lse } = prepared;
    const tolerance = item.kvDtype === undefined || item.kvDtype === "f32" ? 1e-5 : 1e-4;
    // Whatever the combine, and each time: the same bits. (float64 rounds a merge once, ag-rs often.)
    let first: Buffer | undefined;
    for (const combine of COMBINES) {
      for (let repeat = 0; repeat < repeats; repeat++) {
        out.fill(Number.NaN);
        lse.fill(Number.NaN);
        await world.call("replay", [{ ...replay, options: { ...replay.options, combine } }]);
        const bits = Buffer.concat([out.bytes, lse.bytes]);
        if (backend === "reference" && combine !== "a2a") continue;
        first ??= bits;
        expect(Buffer.compare(bits, first)).toBe(0);
      }
      expectNear(`${item.name}, ${combine}, out`, out, prepared.expectedOut, tolerance);
      expectNear(`${item.name}, ${combine}, lse`, lse, prepared.expectedLse, tolerance);
    }
    prepared.free();
  }
}

/**
 * On software Vulkan compiling takes seconds for each head size: the cases whose kernels differ in more than constants.
 */
const ON_GPU = /sinks with window|MLA of odd sizes|f8 gathered|20000|interleave 4 of blocks|a scale a token/;

describe("attention features, every case and combine", () => {
  test.each([1, 2, 3, 4, 8])("wasm, %d ranks", (size) => checkFeatures(size, "wasm", 3));
  test.each([1, 2, 3, 4, 8])("wasm, caches and operands in memories of the ranks' own, %d ranks", (size) =>
    checkFeatures(size, "wasm own", 1),
  );
  test.each([1, 3, 8])("reference, %d ranks", (size) => checkFeatures(size, "reference", 1));
  test.each(["webgpu", "webgpu shared"] as const)("%s on software Vulkan, 3 ranks", (backend) =>
    checkFeatures(3, backend, 1, ON_GPU),
  );
  test("webgpu shared on software Vulkan, operands in memories of the ranks' own, 3 ranks", () =>
    checkFeatures(3, "webgpu shared own", 1, /sinks with window|MLA of odd sizes/));
});
