import { measure } from "mitata";

/** Median seconds of a synchronous function, after warm-up. */
export async function medianSeconds(run: () => void, minSeconds = 0.4): Promise<number> {
  const stats = await measure(run, { min_cpu_time: minSeconds * 1e9, min_samples: 7, warmup_samples: 2 });
  return stats.p50 / 1e9;
}

/** `1.23 ms`, `45.6 us` */
export function formatSeconds(seconds: number): string {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  if (seconds >= 1e-3) return `${(seconds * 1e3).toFixed(2)} ms`;
  return `${(seconds * 1e6).toFixed(2)} us`;
}
