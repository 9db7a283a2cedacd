// The works of the bench, the figures that come of them, and how they are printed.
import { printTable } from "../print-table.ts";
import type { ElementType } from "./gguf/element-types.ts";
import type { Prompts } from "./prompts.ts";
import { median, type Work, type WorkTime } from "./works.ts";

/** A figure of a work. */
export interface Row {
  readonly label: string;
  readonly work: string;
  readonly rate: "promptRate" | "decodeRate";
  readonly promptTokens: number;
}

/** Lockstep with weights as stored or in int8, or llama.cpp with weights of a type. */
export type Side = OwnSide | ElementType;
export type OwnSide = "stored" | "int8";

/** What llama.cpp with weights of a type is compared with. */
export function counterpart(type: ElementType): OwnSide {
  return type === "q8_0" ? "int8" : "stored";
}

/** Each of ours that types of llama.cpp's weights are compared with, and these. */
export function comparisons(types: readonly ElementType[]): { own: OwnSide; peers: ElementType[] }[] {
  const owns: readonly OwnSide[] = ["stored", "int8"];
  return owns
    .map((own) => ({ own, peers: types.filter((type) => counterpart(type) === own) }))
    .filter(({ peers }) => peers.length > 0);
}

/** The work of a process that continues a prompt by one token: all of its time counts. */
export const COMMAND = "command";

/** What the runs of a side measured of each work, a run for each pair; by {@link timesKey}. */
export type Times = ReadonlyMap<string, readonly WorkTime[]>;

export function timesKey(side: Side, work: string): string {
  return `${side} ${work}`;
}

/**
 * The rows whose label contains `only`, and the works that give them, in the order in which a process does them: the
 * cold one first.
 * @param decoded tokens to decode in each
 * @param most tokens of a text that the model was made for: works of longer ones are left out
 */
export function worksAndRows(
  { short, medium, long }: Prompts,
  decoded: number,
  only: string,
  most: number,
): { readonly works: readonly Work[]; readonly rows: readonly Row[] } {
  const tokens = (count: number): string => `${count.toLocaleString("en")} tokens`;
  const all = [
    { name: "cold", prompt: short.ids, warmUpSeconds: 0, seconds: 0 },
    { name: "short", prompt: short.ids, warmUpSeconds: 2, seconds: 2 },
    { name: "medium", prompt: medium.ids, warmUpSeconds: 0.1, seconds: 0 },
    { name: "long", prompt: long.ids, warmUpSeconds: 0, seconds: 0 },
    { name: COMMAND, prompt: short.ids, warmUpSeconds: 0, seconds: 0 },
  ].map((work) => ({ ...work, tokens: work.name === COMMAND ? 1 : decoded }));
  const row = (label: string, work: string, rate: Row["rate"]): Row => {
    const promptTokens = all.find(({ name }) => name === work)?.prompt.length ?? 0;
    return { label, work, rate, promptTokens };
  };
  const [after, before] = [tokens(medium.ids.length), tokens(long.ids.length)];
  const rows = [
    row(`decode, the first ${tokens(decoded)}, cold`, "cold", "decodeRate"),
    row("decode, short context", "short", "decodeRate"),
    row(`decode after ${after}`, "medium", "decodeRate"),
    row(`decode after ${before}`, "long", "decodeRate"),
    row(`prompt of ${after}`, "medium", "promptRate"),
    row(`prompt of ${before}`, "long", "promptRate"),
    row("command to its first token and out", COMMAND, "promptRate"),
  ].filter(({ label, promptTokens }) => label.includes(only) && promptTokens + decoded <= most);
  return { works: all.filter(({ name }) => rows.some(({ work }) => work === name)), rows };
}

/**
 * Prints the rows of a number of ranks.
 * @param types of llama.cpp's weights, where it was run
 * @param fewer what Lockstep measured on fewer ranks
 */
export function printRows(
  ranks: number,
  types: readonly ElementType[],
  rows: readonly Row[],
  times: Times,
  fewer: Times | undefined,
): void {
  const rates = (from: Times, side: Side, { work, rate }: Row): number[] =>
    (from.get(timesKey(side, work)) ?? []).map((time) => time[rate]);
  const ratio = (ours: readonly number[], others: readonly number[]): string =>
    median(ours.map((our, pair) => our / (others[pair] ?? Number.NaN))).toFixed(2);
  const sides = comparisons(types).map(({ own, peers }) => ({
    own,
    peers: peers.filter((type) => rows.some(({ work }) => times.has(timesKey(type, work)))),
  }));
  const table = rows.map((row) => [
    row.label,
    ...sides.flatMap(({ own, peers }) => {
      const ours = rates(times, own, row);
      const scaled = fewer === undefined ? [] : [ratio(ours, rates(fewer, own, row))];
      const beside = peers.flatMap((side) => {
        const theirs = rates(times, side, row);
        return [formatRate(row, median(theirs)), ratio(ours, theirs)];
      });
      return [formatRate(row, median(ours)), ...scaled, ...beside];
    }),
  ]);
  const header = sides.flatMap(({ own, peers }) => [
    `${ranks === 1 ? "1 rank" : `${ranks} ranks`}${own === "int8" ? ", int8" : ""}`,
    ...(fewer === undefined ? [] : ["of fewer"]),
    ...peers.flatMap((side) => [`llama.cpp ${side}`, "ratio"]),
  ]);
  printTable(["work", ...header], table);
}

/** Tokens decoded a second, or the seconds that a prompt takes. */
function formatRate({ rate, promptTokens }: Row, value: number): string {
  if (rate === "promptRate") return `${(promptTokens / value).toFixed(2)} s`;
  return `${value.toFixed(value < 10 ? 2 : 0)}/s`;
}
