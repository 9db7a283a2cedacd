import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./fork-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(120_000);

async function checkForks(size: number, backend: TestBackend): Promise<void> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./fork-program.ts", import.meta.url),
    options: { backend },
  });
  for (const kvDtype of ["f32", "f8e4m3", "i8"] as const) {
    const shared = await world.call("forked", [kvDtype, true]);
    const separate = await world.call("forked", [kvDtype, false]);
    for (const [rank, { results, blocks }] of shared.entries()) {
      expect(results).toEqual(separate[rank]?.results ?? []);
      expect(results.every(Number.isFinite)).toBe(true);
      // Three texts in the blocks of one.
      expect(3 * blocks).toBe(separate[rank]?.blocks ?? 0);
    }
  }
  for (const { tag, kept } of await world.call("outOfBlocks", [])) {
    expect(tag).toBe("OutOfBlocks");
    expect(kept).toBe(true);
  }
  for (const { blocksBefore, blocksAfter } of await world.call("cancelled", [])) expect(blocksAfter).toBe(blocksBefore);
}

describe("forked sequences give the bits of separate ones, on every layer", () => {
  test.each([1, 2, 3, 4, 8])("wasm, %d ranks", (size) => checkForks(size, "wasm"));
  test("reference, 2 ranks", () => checkForks(2, "reference"));
  test.each(["webgpu", "webgpu shared"] as const)("%s on software Vulkan, 2 ranks", (backend) =>
    checkForks(2, backend),
  );
});
