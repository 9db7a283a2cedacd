const MOST_NAMED = 3;

/**
 * What is wrong with a command line, from what `parseArgs` of `node:util` threw: a sentence without its full stop. Of an
 * option that there is not, it says what was expected: the options whose names are nearest.
 * @param error what was thrown
 * @param options the options that there are, by their names without dashes
 */
export function describeOptionsError(error: unknown, options: Readonly<Record<string, unknown>>): string {
  const message = error instanceof Error ? error.message : String(error);
  const sentence = (message.split(/\. |\n/)[0] ?? message).replace(/\.$/, "");
  const [, name] = /^Unknown option '-{1,2}(.*?)'/.exec(sentence) ?? [];
  const nearest = name === undefined ? [] : nearestNames(name, Object.keys(options));
  if (nearest.length === 0) return sentence;
  return `${sentence}: expected one such as ${nearest.map((option) => `--${option}`).join(", ")}`;
}

/** The names that are nearest to a name, the nearest first: those that differ by one letter more are among them. */
function nearestNames(name: string, known: readonly string[]): string[] {
  const away = known.map((one) => ({ one, distance: distanceOf(name.slice(0, 60), one) }));
  const least = Math.min(...away.map(({ distance }) => distance));
  return away
    .filter(({ distance }) => distance <= least + 1)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, MOST_NAMED)
    .map(({ one }) => one);
}

/** How many letters to put in, leave out or replace; one at most where a name is a part of the other. */
function distanceOf(a: string, b: string): number {
  if (a === b) return 0;
  if (a.length > 2 && b.length > 2 && (a.includes(b) || b.includes(a))) return 1;
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [above, letter] of [...a].entries()) {
    const next = [above + 1];
    for (let at = 0; at < b.length; at++) {
      const replaced = (row[at] ?? 0) + (b[at] === letter ? 0 : 1);
      next.push(Math.min(replaced, (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? a.length;
}
