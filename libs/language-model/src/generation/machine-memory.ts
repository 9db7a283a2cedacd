import { builtinModule } from "@lockstep/tensor";

/** Where control groups, version 2 and 1, say how much a container may take. */
const LIMITS = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/**
 * Bytes of memory that this machine, or the container this process runs in, has in all; infinite where nobody tells, as
 * in browsers.
 */
export function machineBytes(): number {
  const total = builtinModule<typeof import("node:os")>("node:os")?.totalmem() ?? Number.POSITIVE_INFINITY;
  return Math.min(total, ...LIMITS.map(limitOf));
}

function limitOf(path: string): number {
  try {
    const bytes = Number(builtinModule<typeof import("node:fs")>("node:fs")?.readFileSync(path, "utf8"));
    return bytes > 0 ? bytes : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
