import { formatBytes, formatTable } from "./report.ts";
import type { Exchanged, StepTrace } from "./step-trace.ts";
import type { Range } from "./tensor-parallel.ts";

/** How one query token's attention was made up. */
export interface ExplainedQuery {
  /** Number of the text, from 0, and position of the token in it. */
  readonly text: number;
  readonly position: number;
  /**
   * shares[layer][head][i]: the share of the i-th rank of the head's DCP group in the result, exp(partial LSE - LSE); they sum to
   * 1. Heads of the whole model.
   */
  readonly shares: readonly (readonly (readonly number[])[])[];
}

/** One step, over all ranks; `--explain-json` writes it as it is. */
export interface Explanation {
  /** From 1, prompts included. */
  readonly step: number;
  readonly kind: "decode" | "prefill";
  readonly combine: string;
  readonly ranks: readonly {
    readonly rank: number;
    /** Ranks that share its KV cache, in the order of the shares. */
    readonly dcpGroup: readonly number[];
    /** Query heads [start, end) it attends for, and whose results it keeps. */
    readonly groupHeads: Range;
    readonly ownHeads: Range;
    /** For each text of the step: how many tokens it stores, and the positions as runs [start, end). */
    readonly texts: readonly {
      readonly text: number;
      readonly length: number;
      readonly held: number;
      readonly runs: readonly Range[];
    }[];
    readonly attention: Exchanged;
    readonly tensorParallel: Exchanged;
  }[];
  /** Empty for a prefill: there each rank attends for its own heads over keys and values gathered from all ranks. */
  readonly queries: readonly ExplainedQuery[];
}

/** Puts the ranks' traces of one step together. `dcp` ranks in a row share a KV cache. */
export function explainStep(traces: readonly StepTrace[], dcp: number): Explanation {
  const [first] = traces;
  if (first === undefined) throw new Error("no traces to explain");
  const tokens = first.texts.flatMap(({ text, positions }) => positions.map((position) => ({ text, position })));
  return {
    step: first.step,
    kind: first.isPrefill ? "prefill" : "decode",
    combine: first.combine,
    ranks: traces.map(({ rank, groupHeads, ownHeads, texts, attention, tensorParallel }) => ({
      rank,
      dcpGroup: Array.from({ length: dcp }, (_, index) => Math.floor(rank / dcp) * dcp + index),
      groupHeads,
      ownHeads,
      texts: texts.map(({ text, length, held }) => ({
        text,
        length,
        held: held.reduce((sum, { start, end }) => sum + end - start, 0),
        runs: held,
      })),
      attention,
      tensorParallel,
    })),
    queries: first.isPrefill
      ? []
      : tokens.map((token, row) => ({
          ...token,
          shares: first.partialLse.map((_, layer) => layerShares(traces, dcp, layer, row)),
        })),
  };
}

/** For each head of the model the shares of the ranks of its DCP group. */
function layerShares(traces: readonly StepTrace[], dcp: number, layer: number, row: number): number[][] {
  return traces.flatMap(({ rank, ownHeads, groupHeads, lse }) => {
    const start = Math.floor(rank / dcp) * dcp;
    const group = traces.slice(start, start + dcp);
    const own = ownHeads.end - ownHeads.start;
    const all = groupHeads.end - groupHeads.start;
    return Array.from({ length: own }, (_, head) => {
      const whole = lse[layer]?.[row * own + head] ?? Number.NaN;
      const at = row * all + ownHeads.start - groupHeads.start + head;
      return group.map(({ partialLse }) => Math.exp((partialLse[layer]?.[at] ?? Number.NaN) - whole));
    });
  });
}

/** An explanation as two tables: the ranks, and each layer's shares of the step's last query token. */
export function formatExplanation(explanation: Explanation): string {
  const { step, kind, combine, ranks, queries } = explanation;
  const query = queries.at(-1);
  const size = ranks[0]?.dcpGroup.length ?? 1;
  const meanShares = (query?.shares ?? []).map((heads) => meanOver(heads, size));
  const rows = ranks.flatMap(({ rank, texts, groupHeads, ownHeads, attention, tensorParallel }) =>
    texts.map(({ text, held, length, runs }, index) => [
      index === 0 ? String(rank) : "",
      String(text + 1),
      `${held} of ${length}`,
      formatRuns(runs),
      `${formatRange(ownHeads)} of ${formatRange(groupHeads)}`,
      ...(index === 0 ? [formatExchanged(attention), formatExchanged(tensorParallel)] : ["", ""]),
    ]),
  );
  const header = ["rank", "text", "tokens held", "positions", "heads", "attention received", "TP received"];
  const lines = [`step ${step}, ${kind}${kind === "decode" ? `, combine ${combine}` : ""}`, formatTable(header, rows)];
  if (query === undefined) {
    lines.push("each rank attended for its own heads over the keys and values of all ranks");
    return lines.join("\n");
  }
  // Each DCP group has heads of its own; the mean over the model's heads is of the ranks at the same place in their groups.
  const places = Array.from({ length: size }, (_, place) =>
    ranks.filter(({ rank }) => rank % size === place).map(({ rank }) => rank),
  );
  lines.push(
    "",
    `share of each rank in the attention of text ${query.text + 1}, position ${query.position}: mean over heads (least to most)`,
    formatTable(
      ["layer", ...places.map((of) => `rank ${of.join(", ")}`)],
      meanShares.map((shares, layer) => [
        String(layer),
        ...shares.map(({ mean, least, most }) => `${percent(mean)} (${percent(least)} to ${percent(most)})`),
      ]),
    ),
  );
  return lines.join("\n");
}

function meanOver(heads: readonly (readonly number[])[], size: number) {
  return Array.from({ length: size }, (_, place) => {
    const shares = heads.map((head) => head[place] ?? 0);
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    return { mean, least: Math.min(...shares), most: Math.max(...shares) };
  });
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

function formatExchanged({ collectives, bytesReceived }: Exchanged): string {
  return `${formatBytes(bytesReceived)} in ${collectives}`;
}

function formatRange({ start, end }: Range): string {
  return end - start === 1 ? String(start) : `${start}..${end - 1}`;
}

/** The first runs, and the last one: `0, 4, 8, .. 64`. */
function formatRuns(runs: readonly Range[]): string {
  if (runs.length === 0) return "none";
  const shown = runs.length <= 4 ? runs : runs.slice(0, 3);
  const last = runs.at(-1);
  const rest = runs.length <= 4 || last === undefined ? "" : `, .. ${formatRange(last)}`;
  return shown.map(formatRange).join(", ") + rest;
}
