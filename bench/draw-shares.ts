import type { Report, RowReport } from "./report.ts";

const [LABEL, BAR, LINE, TOP] = [330, 420, 18, 64];
const COLORS = { copy: "#4477aa", read: "#cc6677" } as const;

/** An SVG of each row's share of its ceiling as a bar, with a tick where the recorded time of another would end. */
export function drawShares({ device, ceilings, rows }: Report): string {
  const height = TOP + rows.length * LINE + 12;
  const width = LABEL + BAR * 1.1 + 60;
  const [copy, read] = [ceilings.copy, ceilings.read].map((bytes) => (bytes / 1e9).toFixed(0));
  const size = `width="${width}" height="${height}"`;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="11">`,
    `<title>Share of the bandwidth ceiling by op</title>`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    text(8, 18, `Share of the bandwidth ceiling on ${device}`, 'font-size="14"'),
    text(
      8,
      36,
      `blue: of the copy ceiling, ${copy} GB/s; red: of the read ceiling, ${read} GB/s; black ticks: recorded times`,
    ),
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
      `<line x1="${at(share)}" x2="${at(share)}" y1="${TOP - 6}" y2="${height - 10}" stroke="#cccccc"/>`,
      text(at(share), TOP - 10, share.toFixed(2), 'text-anchor="middle"'),
    ]),
    ...rows.flatMap((row, index) => drawRow(row, TOP + index * LINE)),
    "</svg>",
  ];
  return `${lines.join("\n")}\n`;
}

function drawRow(row: RowReport, y: number): string[] {
  const end = at(row.shareOfCeiling);
  const size = `width="${round(end - LABEL)}" height="${LINE - 6}"`;
  const lines = [
    text(LABEL - 6, y + 12, `${row.op} ${row.shape} ${row.dtype}`, 'text-anchor="end" font-size="10"'),
    `<rect x="${LABEL}" y="${y + 3}" ${size} fill="${COLORS[row.ceiling]}"/>`,
    text(end + 4, y + 12, row.shareOfCeiling.toFixed(2)),
  ];
  if (row.anchor === undefined) return lines;
  const tick = at(row.shareOfCeiling / row.anchor.speedup);
  return [
    ...lines,
    `<line x1="${tick}" x2="${tick}" y1="${y + 1}" y2="${y + LINE - 1}" stroke="black" stroke-width="2"/>`,
  ];
}

function at(share: number): number {
  return round(LABEL + BAR * Math.min(share, 1.1));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function text(x: number, y: number, content: string, style = ""): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x}" y="${y}"${style === "" ? "" : ` ${style}`}>${escaped}</text>`;
}
