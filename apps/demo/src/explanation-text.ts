import type { Exchanged, Explanation, Range } from "@lockstep/language-model";
import { formatBytes, formatTable } from "./report.ts";

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
  const how = query === undefined ? "" : `, combine ${combine}`;
  const lines = [`step ${step}, ${kind}${how}`, formatTable(header, rows)];
  if (query === undefined) {
    lines.push("each rank attended for its own heads over the keys and values of all ranks");
    return lines.join("\n");
  }
  // Each DCP group has heads of its own; the mean over the model's heads is of the ranks at the same place in their
  // groups.
  const places = Array.from({ length: size }, (_, place) =>
    ranks.filter(({ rank }) => rank % size === place).map(({ rank }) => rank),
  );
  lines.push(
    "",
    `share of each rank in the attention of text ${query.text + 1}, position ${query.position}: ` +
      "mean over heads (least to most)",
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
