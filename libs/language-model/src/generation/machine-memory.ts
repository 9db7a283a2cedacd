import { readFileSync } from "node:fs";
import { totalmem } from "node:os";

/** Where control groups, version 2 and 1, say how much a container may take. */
const LIMITS = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/** Bytes of memory that this machine, or the container this process runs in, has in all. */
export function machineBytes(): number {
  return Math.min(totalmem(), ...LIMITS.map(limitOf));
}

function limitOf(path: string): number {
  try {
    const bytes = Number(readFileSync(path, "utf8"));
    return bytes > 0 ? bytes : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
