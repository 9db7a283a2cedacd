// Times out of the tables that the benches print.

const UNITS: Readonly<Record<string, number>> = { ns: 1e-9, us: 1e-6, ms: 1e-3, s: 1 };

/** Columns with the time of a peer or of a ceiling, which no change of ours makes better or worse. */
const OTHERS: ReadonlySet<string> = new Set(["memcpy", "memcpy / lockstep", "openmpi", "anchor"]);

/**
 * Seconds by row, of every figure that is a time: a cell with a unit (`1.23 ms`), a number below a title that begins
 * with a unit (`ms a step`), or one below a title that begins with `steps/s`, whose steps' time it is then. A figure's
 * name is the table's title, the cells before the row's first time and, from the second on, its column's title; a name
 * that comes again is numbered.
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
    // Figures in a title are of one run.
    const place = title
      .replace(/[\d.]+ (ns|us|ms|s|GB\/s)(?!\w)/g, "")
      .replace(/\s+/g, " ")
      .trim();
    const row = `${place} | ${cells.slice(0, timeAt).join(" ")}`;
    for (const [at, cell] of cells.entries()) {
      const seconds = secondsOf(cell, header[at]);
      if (seconds === undefined) continue;
      const name = at === timeAt ? row : `${row} | ${header[at]}`;
      let unique = name;
      for (let again = 2; times.has(unique); again++) unique = `${name} (${again})`;
      times.set(unique, seconds);
    }
  }
  return times;
}

function secondsOf(cell: string, title = ""): number | undefined {
  if (OTHERS.has(title)) return undefined;
  const [, number, unit] = /^(\d+(?:\.\d+)?) (ns|us|ms|s)$/.exec(cell) ?? [];
  if (number !== undefined && unit !== undefined) return Number(number) * (UNITS[unit] ?? Number.NaN);
  if (!/^\d+(\.\d+)?$/.test(cell)) return undefined;
  const [word = ""] = title.split(/[ ,]/);
  const titleUnit = UNITS[word];
  if (titleUnit !== undefined) return Number(cell) * titleUnit;
  return word === "steps/s" ? 1 / Number(cell) : undefined;
}
