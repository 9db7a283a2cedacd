// Whether a server's memory stays what it is over many requests.
import { makeAsks } from "./asks.ts";
import { blocksHeld } from "./at-rest.ts";
import { load } from "./load.ts";
import type { ServeBenchOptions } from "./options.ts";
import { type Served, type ServeOptions, serve } from "./served.ts";
import type { Targets } from "./targets.ts";

const ROUND = 500;
const SAMPLE_MS = 200;
const MIB = 2 ** 20;

/**
 * Asks for texts in rounds of 500, leaving one in ten, and compares the last round with the first two: what lives in
 * all threads when nothing is computed, garbage collected, after the first round and the last, and the least memory
 * that the process held during the second round and the last. How much it holds at one moment tells nothing: that goes
 * up and down by a fifth with what collectors have not collected yet.
 */
export async function measureMemory(
  { clients, tokens, memory }: ServeBenchOptions,
  started: ServeOptions,
  targets: Targets,
): Promise<void> {
  await using server = await serve({ ...started, tellsLive: true });
  const asks = makeAsks(memory, tokens, 0.1, 4);
  const live: number[] = [];
  const resident: Range[] = [];
  for (let from = 0; from < memory; from += ROUND) {
    resident.push(await residentWhile(server, load(server.url, asks.slice(from, from + ROUND), clients)));
    await blocksHeld(server);
    live.push((await server.liveBytes()).reduce((sum, bytes) => sum + bytes, 0));
  }
  const least = resident.map((range) => range.least);
  const growth = (all: readonly number[], since: number): number =>
    ((all.at(-1) ?? Number.NaN) / (all[since] ?? Number.NaN) - 1) * 100;
  for (const [what, grown] of [
    ["live memory", growth(live, 0)],
    ["least resident memory", growth(least, 1)],
  ] as const) {
    targets.add(`${what}, ${ROUND} to ${memory} requests`, `${grown.toFixed(1)} %`, "below 5 %", grown < 5);
  }
  const mib = (bytes: number, digits: number): string => (bytes / MIB).toFixed(digits);
  console.log(`MiB that live after each ${ROUND} requests: ${live.map((bytes) => mib(bytes, 2)).join(" ")}`);
  const ranges = resident.map((range) => `${mib(range.least, 0)} to ${mib(range.most, 0)}`);
  console.log(`MiB resident during them: ${ranges.join(", ")}`);
}

interface Range {
  readonly least: number;
  readonly most: number;
}

/** Bytes of memory that the process held until `done`. */
async function residentWhile(server: Served, done: Promise<unknown>): Promise<Range> {
  let isDone = false;
  const end = done.finally(() => {
    isDone = true;
  });
  let [least, most] = [Number.POSITIVE_INFINITY, 0];
  while (!isDone) {
    const bytes = await server.residentBytes();
    [least, most] = [Math.min(least, bytes), Math.max(most, bytes)];
    await Bun.sleep(SAMPLE_MS);
  }
  await end;
  return { least, most };
}
