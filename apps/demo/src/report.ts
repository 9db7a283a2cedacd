import type { RankMetrics } from "@lockstep/language-model";

/** A table with a header row: numbers to the right, columns as wide as they must be. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, column) => cell.padStart(widths[column] ?? 0)).join("  ");
  return [header, ...rows].map(line).join("\n");
}

/** What each rank held and did: the demo's closing table. */
export function formatRanks(ranks: readonly RankMetrics[]): string {
  const header = [
    "rank",
    "tokens held",
    "KV held",
    "KV exchanged",
    "TP exchanged",
    "gather ms",
    "attention ms",
    "combine ms",
  ];
  const rows = ranks.map(({ rank, attention, tensorParallelBytes }) => [
    String(rank),
    String(attention.tokensHeld),
    formatBytes(attention.bytesHeld),
    formatBytes(attention.bytesReceived),
    formatBytes(tensorParallelBytes),
    attention.gatherMs.toFixed(1),
    attention.attentionMs.toFixed(1),
    attention.combineMs.toFixed(1),
  ]);
  return formatTable(header, rows);
}

/** Bytes with a binary unit: `512 B`, `1.5 KiB`, `12.0 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024) return unit === "B" ? `${value} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
}
