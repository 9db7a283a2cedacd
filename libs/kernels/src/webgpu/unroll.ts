const LOOP = /for \(var (\w+) = 0u; \1 < (\w+); \1\+\+\) \{ \/\/ unroll\n/;

/**
 * Writes out the loops marked `// unroll`, which run from 0 to a named constant. Arrays indexed by such loops alone can
 * then live in registers, whether the driver's compiler unrolls loops or not (software adapters do not).
 */
export function unrollLoops(source: string, constants: Readonly<Record<string, number | boolean>>): string {
  let rest = source;
  for (let loop = LOOP.exec(rest); loop !== null; loop = LOOP.exec(rest)) {
    const [header, variable = "", bound = ""] = loop;
    const count = constants[bound];
    if (typeof count !== "number") throw new RangeError(`${bound} is no number: a loop up to it cannot be unrolled`);
    const start = loop.index + header.length;
    const end = closingBrace(rest, start);
    const body = rest.slice(start, end);
    const name = new RegExp(`\\b${variable}\\b`, "g");
    const copies = Array.from({ length: count }, (_, index) => `{\n${body.replace(name, `${index}u`)}}\n`);
    rest = rest.slice(0, loop.index) + copies.join("") + rest.slice(end + 1);
  }
  return rest;
}

/** Index of the brace that closes the block whose inside starts at `start`. */
function closingBrace(source: string, start: number): number {
  let depth = 1;
  for (let at = start; at < source.length; at++) {
    if (source[at] === "{") depth++;
    if (source[at] === "}" && --depth === 0) return at;
  }
  throw new RangeError("a loop to unroll has no end");
}
