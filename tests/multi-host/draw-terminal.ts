const LINE_HEIGHT = 18;
const MARGIN = 14;
/** Of the font's characters, in its size. */
const CHARACTER_WIDTH = 0.602;
const FONT_SIZE = 13;
const COLUMNS = 112;

/** Lines of text as an SVG that looks like a terminal, readable in light and in dark. Longer lines are wrapped. */
export function drawTerminal(lines: readonly string[]): string {
  const wrapped = lines.flatMap(wrap);
  const width = Math.ceil(2 * MARGIN + COLUMNS * CHARACTER_WIDTH * FONT_SIZE);
  const height = 2 * MARGIN + wrapped.length * LINE_HEIGHT;
  const texts = wrapped.map((line, index) => {
    const y = MARGIN + (index + 0.75) * LINE_HEIGHT;
    return `<text x="${MARGIN}" y="${y}" xml:space="preserve">${escaped(line)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
    "<title>Output of a command</title>",
    "<style>",
    `text { font: ${FONT_SIZE}px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1c2733 }`,
    "rect { fill: #f5f7f9 }",
    "@media (prefers-color-scheme: dark) { text { fill: #dce3ea } rect { fill: #10161d } }",
    "</style>",
    `<rect width="${width}" height="${height}" rx="8"/>`,
    ...texts,
    "</svg>",
    "",
  ].join("\n");
}

function wrap(line: string): string[] {
  const parts: string[] = [];
  for (let rest = line; ; ) {
    if (rest.length <= COLUMNS) return [...parts, rest];
    const space = rest.lastIndexOf(" ", COLUMNS);
    const end = space > 0 ? space : COLUMNS;
    parts.push(rest.slice(0, end));
    rest = `  ${rest.slice(end).trimStart()}`;
  }
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
