import { globals } from "webgpu";

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

type Method = (...args: unknown[]) => unknown;

/** Counts calls of Dawn's methods while `run` runs, on every device of this thread. */
export async function countCalls(run: () => Promise<void>): Promise<CallCounts> {
  const counts = { ...NO_CALLS };
  const restore: (() => void)[] = [];
  const classes = globals as Record<string, { prototype: Record<string, Method> }>;
  for (const name of Object.keys(COUNTED) as (keyof typeof COUNTED)[]) {
    const prototype = classes[COUNTED[name]]?.prototype;
    const original = prototype?.[name];
    if (prototype === undefined || original === undefined) throw new Error(`Dawn has no ${COUNTED[name]}.${name}`);
    prototype[name] = function (this: unknown, ...args: unknown[]) {
      counts[name]++;
      return original.apply(this, args);
    };
    restore.push(() => {
      prototype[name] = original;
    });
  }
  try {
    await run();
  } finally {
    for (const undo of restore) undo();
  }
  return counts;
}
