import { readFileSync } from "node:fs";
import type { GpuBench } from "./gpu-bench.ts";

const SOURCE = readFileSync(new URL("./ceilings.wgsl", import.meta.url), "utf8");
const [THREADS, LOADS, READ_STEPS] = [256, 4, 4];

/** Bytes per second that the device moves at best, as measured in this run. */
export interface Ceilings {
  /** Read plus written. */
  readonly copy: number;
  readonly read: number;
}

/** Measures the ceilings over buffers of `bytes` each, far larger than any cache. */
export async function measureCeilings(bench: GpuBench, bytes: number): Promise<Ceilings> {
  const values = { dtype: "f32", seed: 1, scale: 1 } as const;
  const source = await bench.random(values, [bytes / 4]);
  const target = bench.empty("f32", [bytes / 4]);
  const { recorder } = bench;
  const time = (entryPoint: "copy" | "read", steps: number): Promise<number> => {
    const kernel = recorder.kernel({
      key: `ceiling ${entryPoint}`,
      entryPoint,
      bindings: ["uniform", "read", "write"],
      wgsl: () => `const THREADS = ${THREADS}u;\nconst LOADS = ${LOADS}u;\n${SOURCE}`,
    });
    return bench.secondsPerRecord(() => {
      const regions = [recorder.uniform([steps]), recorder.read(source), recorder.write(target)];
      recorder.dispatch(kernel, regions, bytes / (16 * THREADS * LOADS * steps));
    });
  };
  const copy = (2 * bytes) / (await time("copy", 1));
  const read = bytes / (await time("read", READ_STEPS));
  source.free();
  target.free();
  return { copy, read };
}
