import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";

setDefaultTimeout(120_000);

for (const combine of ["a2a", "ag-rs", "one-shot"] as const) {
  test(`a warm step of two ranks with ${combine}: one upload, one submission, one map, and nothing is made`, async () => {
    await using world = await openWorld<typeof import("./step-calls-program.ts")>({
      size: 2,
      program: new URL("./step-calls-program.ts", import.meta.url),
    });
    for (const { counts, out, kernels } of await world.call("step", [combine])) {
      expect(counts).toEqual({
        submit: 1,
        writeBuffer: 1,
        mapAsync: 1,
        createBuffer: 0,
        createBindGroup: 0,
        createShaderModule: 0,
        createComputePipeline: 0,
        pushErrorScope: 0,
      });
      expect(kernels).toBe(0);
      // All keys and values are alike.
      expect(out).toEqual(out.map(() => 0.5));
    }
  });
}
