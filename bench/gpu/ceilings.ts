import { readFileSync } from "node:fs";
import type { Ceilings } from "../report.ts";
import type { GpuBench } from "./gpu-bench.ts";

const SOURCE = readFileSync(new URL("./ceilings.wgsl", import.meta.url), "utf8");
const [THREADS, LOADS, READ_STEPS] = [256, 4, 4];

/** Measures the ceilings over buffers of `bytes` each, far larger than any cache. */
export async function measureCeilings(bench: GpuBench, bytes: number): Promise<Ceilings> {
  return {
    copy: (2 * bytes) / (await secondsOf(bench, "copy", bytes, 1)),
    read: bytes / (await secondsOf(bench, "read", bytes, 1)),
  };
}

/** Seconds of a copy that moves about `bytes`, read plus written: what a single op of that size could reach. */
export async function copySeconds(bench: GpuBench, bytes: number): Promise<number> {
  const step = 16 * THREADS * LOADS;
  const half = Math.max(1, Math.round(bytes / 2 / step)) * step;
  const seconds = await secondsOf(bench, "copy", half, Math.max(1, Math.min(32, Math.ceil((256 << 20) / bytes))));
  return (seconds * bytes) / (2 * half);
}

/** Median seconds to stream `bytes`; calls rotate over `sets` ranges of one buffer, so that each waits for the last. */
async function secondsOf(bench: GpuBench, entryPoint: "copy" | "read", bytes: number, sets: number): Promise<number> {
  const { recorder } = bench;
  const source = await bench.random({ dtype: "f32", seed: 1, scale: 1 }, [sets, bytes / 4]);
  const target = bench.empty("f32", [sets, bytes / 4]);
  const steps = entryPoint === "copy" ? 1 : READ_STEPS;
  const kernel = recorder.kernel({
    key: `ceiling ${entryPoint}`,
    entryPoint: `stream_${entryPoint}`,
    bindings: ["uniform", "read", "write"],
    wgsl: () => `const THREADS = ${THREADS}u;\nconst LOADS = ${LOADS}u;\n${SOURCE}`,
  });
  const seconds = await bench.secondsPerRecord((call) => {
    const set = call % sets;
    const [from, to] = [source, target].map((tensor) => tensor.slice(0, set, set + 1));
    if (from === undefined || to === undefined) return;
    const regions = [recorder.uniform([steps]), recorder.read(from), recorder.write(to)];
    recorder.dispatch(kernel, regions, bytes / (16 * THREADS * LOADS * steps));
  });
  source.free();
  target.free();
  return seconds;
}
