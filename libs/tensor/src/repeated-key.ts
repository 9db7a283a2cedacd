/** A name that stands twice in one object of a JSON text (which JSON.parse has accepted), or undefined. */
export function repeatedKey(json: string): string | undefined {
  /** Names of the objects around the place, innermost last; undefined for a list. */
  const open: (Set<string> | undefined)[] = [];
  let expectsKey = false;
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case "{":
        open.push(new Set());
        expectsKey = true;
        break;
      case "[":
        open.push(undefined);
        expectsKey = false;
        break;
      case "}":
      case "]":
        open.pop();
        expectsKey = false;
        break;
      case ",":
        expectsKey = open.at(-1) !== undefined;
        break;
      case '"': {
        const end = endOfString(json, at);
        const names = open.at(-1);
        if (expectsKey && names !== undefined) {
          const name = String(JSON.parse(json.slice(at, end)));
          if (names.has(name)) return name;
          names.add(name);
          expectsKey = false;
        }
        at = end - 1;
      }
    }
  }
  return undefined;
}

/** The place behind the string that begins at `start`. */
function endOfString(json: string, start: number): number {
  let at = start + 1;
  while (at < json.length && json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at + 1;
}
