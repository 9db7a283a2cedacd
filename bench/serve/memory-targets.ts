// Whether a server's memory stays what it is over many requests.
import { RandomStream } from "../../tests/random.ts";
import { makeAsks } from "./asks.ts";
import { blocksHeld } from "./at-rest.ts";
import { type Ask, load } from "./load.ts";
import type { ServeBenchOptions } from "./options.ts";
import { type Served, type ServeOptions, serve } from "./served.ts";
import type { Targets } from "./targets.ts";

const ROUND = 500;
const MIB = 2 ** 20;
const LONG = 1000;
const WARM_TOKENS = 24;
const VOCABULARY = 4096;

/**
 * Asks for texts in rounds of 500, leaving one in ten, and compares how things stand after the last with the first:
 * nothing is computed, and the garbage of all threads was collected. What lives in their heaps then tells of objects
 * that are kept; the memory that the process holds tells of what collectors do not see.
 *
 * What the process holds at any moment, which is told beside it, goes up and down by a fifth with what has not been
 * collected yet. Its KV cache is filled first, as pages of memory become the process's when they are written to, and
 * compilers settle.
 */
export async function measureMemory(
  { clients, tokens, memory }: ServeBenchOptions,
  started: ServeOptions,
  targets: Targets,
): Promise<void> {
  await using server = await serve({ ...started, tellsLive: true });
  await fillCache(server);
  // What compilers make of code lives in the heaps too.
  await load(server.url, makeAsks(ROUND, WARM_TOKENS, 0.1, 1), clients);
  const asks = makeAsks(memory, tokens, 0.1, 4);
  const [live, resident, uncollected]: [number[], number[], number[]] = [[], [], []];
  for (let from = 0; from < memory; from += ROUND) {
    await load(server.url, asks.slice(from, from + ROUND), clients);
    await blocksHeld(server);
    uncollected.push(await server.residentBytes());
    live.push((await server.liveBytes()).reduce((sum, bytes) => sum + bytes, 0));
    resident.push(await server.residentBytes());
    const told = [uncollected, live, resident].map((all) => ((all.at(-1) ?? Number.NaN) / MIB).toFixed(1));
    console.log(
      `${from + ROUND} requests: ${told[0]} MiB resident; garbage collected, ${told[1]} live, ${told[2]} resident`,
    );
  }
  for (const [what, all] of [
    ["live memory", live],
    ["resident memory", resident],
  ] as const) {
    const growth = ((all.at(-1) ?? Number.NaN) / (all[0] ?? Number.NaN) - 1) * 100;
    targets.add(`${what}, ${ROUND} to ${memory} requests`, `${growth.toFixed(1)} %`, "below 5 %", growth < 5);
  }
}

/** Has every block of the KV cache written to, by prompts that share nothing: until no more blocks become known. */
async function fillCache(server: Served): Promise<void> {
  const random = new RandomStream(6);
  for (let [before, known] = [-1, 0]; known > before; ) {
    const prompts = Array.from({ length: 4 }, (_, seed): Ask => {
      const prompt = Array.from({ length: LONG }, () => random.below(VOCABULARY));
      return { prompt, maxTokens: 1, temperature: 0, seed, leaveAfter: undefined };
    });
    const failed = (await load(server.url, prompts, prompts.length)).find(({ error }) => error !== undefined);
    if (failed !== undefined) throw new Error(`the KV cache could not be filled: ${failed.error}`);
    [before, known] = [known, (await server.health()).kv_blocks.cached];
  }
}
