import { expect, setDefaultTimeout, test } from "bun:test";
import { GpuBench } from "./gpu-bench.ts";

setDefaultTimeout(60_000);

test("calls are timed as one compute pass, in several passes", async () => {
  const bench = await GpuBench.open("software", "off", false, [], []);
  try {
    const x = bench.empty("f32", [8, 4]);
    const out = bench.empty("f32", [2, 4, 4]);
    let calls = 0;
    const seconds = await bench.secondsPerCall((call) => {
      calls = call + 1;
      return bench.backend.packSeq({ x, lengths: [4, 4], out });
    });
    expect(seconds).toBeGreaterThan(0);
    // A slow machine makes few calls in a pass, but always several passes.
    expect(calls).toBeGreaterThan(16);
    await bench.expectWritten("packSeq", out);
  } finally {
    await bench.close();
  }
});
