import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";

setDefaultTimeout(120_000);

const script = fileURLToPath(new URL("./interrupt.ts", import.meta.url));

interface Leftovers {
  readonly started: number;
  readonly left: readonly { readonly workers: number; readonly listeners: number }[];
  readonly first: number;
  readonly last: number;
}

/** `workers`: how many the nine worlds start in all. */
test.each([
  ["its opening", "opening", 12],
  ["a call", "call", 18],
  ["a group's life", "group", 18],
] as const)(
  "a world that is interrupted in the middle of %s leaves no worker, listener or memory",
  (_, mode, workers) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, script, mode], { timeout: 100_000 });
    expect([exitCode, stderr.toString()]).toEqual([0, ""]);
    const { started, left, first, last }: Leftovers = JSON.parse(stdout.toString());
    expect(left).toEqual(Array.from({ length: 9 }, () => ({ workers: 0, listeners: 0 })));
    expect(started).toBeGreaterThanOrEqual(workers);
    // Each world that gets that far touches 64 MiB: those that stayed would be more.
    expect(last - first).toBeLessThan(100 << 20);
  },
);
