// That nobody is slowed, or told a wrong text, by what others do.
import { makeAsks } from "./asks.ts";
import { blocksHeld } from "./at-rest.ts";
import { badRequests } from "./bad-requests.ts";
import type { Answered, Ask } from "./load.ts";
import { type Neighbours, neighbours, type Traffic } from "./neighbours.ts";
import type { ServeBenchOptions } from "./options.ts";
import { rudeClients } from "./rude-clients.ts";
import { type Served, type ServeOptions, serve } from "./served.ts";
import type { Targets } from "./targets.ts";
import { countWrong, textsAlone } from "./texts-alone.ts";

const TURN_MS = 5000;
/** Rounds of texts for each client, before they are asked for again. */
const ROUNDS = 3;

/** Bad requests and rude clients, as many as are wanted of each, beside those who ask for texts. */
export async function measureNeighbours(
  { clients, tokens, bad, badRate, rude, rudeRate }: ServeBenchOptions,
  started: ServeOptions,
  targets: Targets,
): Promise<void> {
  const asks = makeAsks(clients * ROUNDS, tokens, 0, 5);
  const alone = await textsAlone(started, asks);
  const measure = async (
    what: string,
    makeTraffic: (url: string) => Traffic,
    count: number,
    perSecond: number,
  ): Promise<void> => {
    if (count === 0) return;
    await using server = await serve(started);
    const plan = { count, perSecond, turnMs: TURN_MS };
    const found = await neighbours(server.url, asks, clients, makeTraffic(server.url), plan);
    await tell(targets, `${what}, ${perSecond} a second`, count, found, alone, server);
  };
  await measure("bad requests", badRequests, bad, badRate);
  const slow: Ask[] = asks.slice(0, clients);
  await measure("rude clients", (url) => rudeClients(url, slow, alone), rude, rudeRate);
}

async function tell(
  targets: Targets,
  what: string,
  count: number,
  { pairs, wrongAnswers, rounds }: Neighbours,
  alone: readonly Answered[],
  server: Served,
): Promise<void> {
  const answers = rounds.flat();
  const ratios = pairs.map(({ beside, quiet }) => beside / quiet).sort((a, b) => a - b);
  const ratio = ratios[ratios.length >> 1] ?? Number.NaN;
  targets.add(`texts beside ${what} (${pairs.length} pairs)`, ratio.toFixed(2), "at least 0.90", ratio >= 0.9);
  const told = pairs.map(({ beside, quiet }) => `${beside.toFixed(0)}/${quiet.toFixed(0)}`);
  console.log(`texts a second beside ${what}, and in quiet turns: ${told.join(" ")}`);
  targets.none(`wrong answers to ${count} of them`, wrongAnswers);
  targets.none("texts that failed meanwhile", answers.filter(({ error }) => error !== undefined).length);
  const wrong = rounds.reduce((sum, round) => sum + countWrong(round, alone), 0);
  targets.none(`wrong texts of ${answers.length}`, wrong);
  targets.none("KV blocks held after them", await blocksHeld(server));
}
