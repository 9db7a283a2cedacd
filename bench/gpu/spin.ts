import { readFileSync } from "node:fs";
import type { GpuTensor } from "@lockstep/kernels";
import type { Recorder } from "../../libs/kernels/src/webgpu/recorder.ts";

const SOURCE = readFileSync(new URL("./spin.wgsl", import.meta.url), "utf8");
/** A multiprocessor of a large GPU gets one or two. */
const WORKGROUPS = 256;

/**
 * Submits `steps` steps of work that keep the whole GPU busy: one that waits for the CPU lowers its clocks (an H100's
 * from 1980 to 345 MHz within seconds), and what is timed next runs up to three times slower.
 */
export function spin(recorder: Recorder, target: GpuTensor, steps: number): void {
  const kernel = recorder.kernel({
    key: "spin",
    entryPoint: "spin",
    bindings: ["uniform", "write"],
    wgsl: () => SOURCE,
  });
  const regions = [recorder.uniform([steps]), recorder.write(target)];
  void recorder.run(() => recorder.dispatch(kernel, regions, WORKGROUPS));
  void recorder.submit();
}
