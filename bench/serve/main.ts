// `bun run bench:serve`: the server under load on this machine, its clients included. Each text is compared with that
// of the same request alone, to a server that shares no prefixes.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { printTable } from "../print-table.ts";
import { makeAsks } from "./asks.ts";
import { type Answered, load } from "./load.ts";
import { neighbours } from "./neighbours.ts";
import { type Served, serve } from "./served.ts";

const { values } = parseArgs({
  options: {
    clients: { type: "string", default: "50" },
    requests: { type: "string", default: "500" },
    tokens: { type: "string", default: "24" },
    world: { type: "string", default: "auto" },
    runtime: { type: "string", default: "bun" },
    /** Requests after which memory is looked at; none unless given. */
    memory: { type: "string" },
    /** Bad requests to send while others ask for texts; none unless given. */
    bad: { type: "string" },
    "bad-rate": { type: "string", default: "100" },
  },
});
const number = (name: "clients" | "requests" | "tokens" | "memory" | "bad" | "bad-rate"): number => {
  const value = Number(values[name] ?? 0);
  if (Number.isInteger(value) && value >= 0) return value;
  console.error(`bench:serve: --${name} must be a whole number, but is ${values[name]}`);
  process.exit(2);
};
const [clients, requests, tokens, memory] = [number("clients"), number("requests"), number("tokens"), number("memory")];
const runtime = values.runtime === "deno" ? "deno" : "bun";
const args = ["--world", values.world, "--max-context", "2048"];

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;

/** Resolves when nothing is computed any more; with the KV blocks that are held then. */
async function blocksHeld(server: Served): Promise<number> {
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; await Bun.sleep(20)) {
    const { running, waiting, kv_blocks } = await server.health();
    if (running + waiting + kv_blocks.used === 0) return 0;
  }
  return (await server.health()).kv_blocks.used;
}

/** The rates of answers that took `ms` together. */
function rates(answers: readonly Answered[], ms: number): { perSecond: number; median: number; p95: number } {
  const first = answers.filter(({ error }) => error === undefined).map(({ firstMs }) => firstMs);
  const sorted = first.toSorted((a, b) => a - b);
  const sum = answers.reduce((total, answer) => total + answer.tokens, 0);
  return { perSecond: (sum * 1000) / ms, median: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
}

console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores, ${runtime}`);
let hasMissed = false;
const row = (what: string, value: string, target: string, isMet: boolean): string[] => {
  if (!isMet) hasMissed = true;
  return [what, value, target, isMet ? "" : "missed"];
};
const rows: string[][] = [];
if (requests > 0) {
  await using server = await serve(runtime, args);
  // Compilers settle first.
  await load(server.url, makeAsks(clients * 3, tokens, 0, 1), clients);
  const asks = makeAsks(requests, tokens, 0, 2);
  const started = performance.now();
  const answers = await load(server.url, asks, clients);
  const { perSecond, median, p95 } = rates(answers, performance.now() - started);
  const errors = answers.filter(({ error }) => error !== undefined);
  rows.push(row("tokens a second", perSecond.toFixed(0), "at least 690", perSecond >= 690));
  rows.push(row("first token, median", `${median.toFixed(0)} ms`, "at most 500 ms", median <= 500));
  rows.push(row("first token, 95 of 100", `${p95.toFixed(0)} ms`, "", true));
  rows.push(row("errors", `${errors.length}`, "0", errors.length === 0));
  for (const { error } of errors.slice(0, 3)) console.error(`error: ${error}`);

  const leaving = makeAsks(requests, tokens, 0.1, 3);
  const left = await load(server.url, leaving, clients);
  const held = await blocksHeld(server);
  const gone = left.filter(({ hasLeft }) => hasLeft).length;
  rows.push(row(`KV blocks held after ${gone} left`, `${held}`, "0", held === 0));

  await using alone = await serve(runtime, [...args, "--no-prefix-cache"]);
  const same = await load(alone.url, [...asks, ...leaving.map((ask) => ({ ...ask, leaveAfter: undefined }))], 1);
  const all = [...answers, ...left];
  const wrong = same.filter(({ text }, index) => {
    const other = all[index];
    return other === undefined || (other.hasLeft ? !text.startsWith(other.text) : other.text !== text);
  });
  rows.push(row(`wrong texts of ${all.length}`, `${wrong.length}`, "0", wrong.length === 0));
}
if (memory > 0) {
  await using server = await serve(runtime, args);
  const [before, step] = [500, 500];
  const told: string[] = [];
  let [first, last] = [Number.NaN, Number.NaN];
  await load(server.url, makeAsks(memory, tokens, 0.1, 4), clients, async (count) => {
    if (count % step !== 0) return;
    last = await server.residentBytes();
    if (count === before) first = last;
    told.push(`${(last / 2 ** 20).toFixed(0)}`);
  });
  const growth = (last / first - 1) * 100;
  rows.push(row(`memory, ${before} to ${memory} requests`, `${growth.toFixed(1)} %`, "below 5 %", growth < 5));
  console.log(`MiB after each ${step} requests: ${told.join(" ")}`);
}
const bad = number("bad");
if (bad > 0) {
  await using server = await serve(runtime, args);
  const perSecond = number("bad-rate");
  const asks = makeAsks(clients * 3, tokens, 0, 5);
  const beside = await neighbours(server.url, asks, clients, { count: bad, perSecond, turnMs: 5000 });
  const { ratio, pairs, wrongAnswers, errors } = beside;
  const what = `texts beside ${perSecond} bad requests a second (${pairs} pairs)`;
  rows.push(row(what, ratio.toFixed(2), "at least 0.90", ratio >= 0.9));
  rows.push(row(`wrong answers to ${bad} bad requests`, `${wrongAnswers}`, "0", wrongAnswers === 0));
  rows.push(row("texts that failed meanwhile", `${errors}`, "0", errors === 0));
}
console.log(`${clients} clients, ${requests} requests of ${tokens} tokens, prompts of 8 to 60`);
printTable(["", "measured", "target", ""], rows);
process.exit(hasMissed ? 1 : 0);
