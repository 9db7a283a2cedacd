// Times out of the tables that the benches print.

const UNITS: Readonly<Record<string, number>> = { ns: 1e-9, us: 1e-6, ms: 1e-3, s: 1 };

/**
 * Seconds by row, of every row that has a time: the first cell with a unit (`1.23 ms`), or the number of a first column whose
 * title is a unit. A row's name is the table's title and its cells before the time; a row that comes again is numbered.
 */
export function printedTimes(text: string): Map<string, number> {
  const times = new Map<string, number>();
  let title = "";
  let header: readonly string[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    if (!line.startsWith("  ")) {
      title = line.trim();
      header = [];
      continue;
    }
    const cells = line.trim().split(/\s{2,}/);
    if (header.length === 0) {
      header = cells;
      continue;
    }
    const timeAt = cells.findIndex((cell, at) => secondsOf(cell, header[at]) !== undefined);
    if (timeAt < 1) continue;
    const seconds = secondsOf(cells[timeAt] ?? "", header[timeAt]);
    // Figures in a title are of one run.
    const place = title
      .replace(/[\d.]+ (ns|us|ms|s|GB\/s)(?!\w)/g, "")
      .replace(/\s+/g, " ")
      .trim();
    let name = `${place} | ${cells.slice(0, timeAt).join(" ")}`;
    for (let again = 2; times.has(name); again++) name = `${place} | ${cells.slice(0, timeAt).join(" ")} (${again})`;
    if (seconds !== undefined) times.set(name, seconds);
  }
  return times;
}

function secondsOf(cell: string, title: string | undefined): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?) (ns|us|ms|s)$/.exec(cell) ?? [];
  if (number !== undefined && unit !== undefined) return Number(number) * (UNITS[unit] ?? Number.NaN);
  const titleUnit = title === undefined ? undefined : UNITS[title];
  return titleUnit !== undefined && /^\d+(\.\d+)?$/.test(cell) ? Number(cell) * titleUnit : undefined;
}
