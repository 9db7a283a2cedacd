import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import { NO_CALLS } from "../../kernels/src/testing/count-calls.ts";

setDefaultTimeout(120_000);

const ONE = { ...NO_CALLS, submit: 1, writeBuffer: 1, mapAsync: 1 };

for (const combine of ["a2a", "ag-rs", "one-shot"] as const) {
  test.each([
    ["two ranks", 2, "webgpu"],
    ["four ranks of one device together", 4, "webgpu shared"],
  ] as const)(
    `a warm step with ${combine} of %s: one upload, one submission, one map, and nothing is made`,
    async (_, size, backend) => {
      await using world = await openWorld<typeof import("./step-calls-program.ts")>({
        size,
        program: new URL("./step-calls-program.ts", import.meta.url),
        options: { backend },
      });
      for (const [rank, { counts, out, kernels }] of (await world.call("step", [combine])).entries()) {
        expect(counts).toEqual(backend === "webgpu" || rank === 0 ? ONE : NO_CALLS);
        expect(kernels).toBe(0);
        // All keys and values are alike.
        expect(out.length).toBeGreaterThan(0);
        expect(Math.max(...out.map((value) => Math.abs(value - 0.5)))).toBeLessThan(1e-6);
      }
    },
  );
}
