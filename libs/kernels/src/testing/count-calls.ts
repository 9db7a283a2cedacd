import { watchDawn } from "./watch-dawn.ts";

/** Calls that a decode step must not make once it is warm, and the two that it makes once. */
export const COUNTED = {
  submit: "GPUQueue",
  writeBuffer: "GPUQueue",
  mapAsync: "GPUBuffer",
  createBuffer: "GPUDevice",
  createBindGroup: "GPUDevice",
  createShaderModule: "GPUDevice",
  createComputePipeline: "GPUDevice",
  pushErrorScope: "GPUDevice",
} as const;

export type CallCounts = Record<keyof typeof COUNTED, number>;

/** The counts of something that makes none of these calls. */
export const NO_CALLS: CallCounts = {
  submit: 0,
  writeBuffer: 0,
  mapAsync: 0,
  createBuffer: 0,
  createBindGroup: 0,
  createShaderModule: 0,
  createComputePipeline: 0,
  pushErrorScope: 0,
};

/** Counts calls of Dawn's methods while `run` runs, on every device of this thread. */
export async function countCalls(run: () => Promise<void>): Promise<CallCounts> {
  const counts = { ...NO_CALLS };
  const names = Object.keys(COUNTED) as (keyof typeof COUNTED)[];
  await watchDawn(
    names.map((name) => [COUNTED[name], name, () => counts[name]++]),
    run,
  );
  return counts;
}
