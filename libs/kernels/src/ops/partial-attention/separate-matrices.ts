const ARRAY = /\bvar (\w+): array<(Left|Right|Result), (\w+)>;/;

/**
 * Replaces arrays of matrices by one variable for each element, in WGSL whose loops have been written out: drivers keep
 * arrays of matrices in memory, and move each of them there and back with every product (two to three times slower on
 * an H200). Indexes are sums of products of literals and named constants.
 */
export function separateMatrices(source: string, constants: Readonly<Record<string, number | boolean>>): string {
  let text = source;
  for (let match = ARRAY.exec(text); match !== null; match = ARRAY.exec(text)) {
    const [declaration, name = "", type = "", count = ""] = match;
    const length = numberOf(count, constants);
    const variables = Array.from({ length }, (_, index) => `var ${name}_${index} = ${type}();`);
    text = text
      .replaceAll(declaration, variables.join(" "))
      .replace(new RegExp(`\\b${name}\\[([^\\]]+)\\]`, "g"), (_, index: string) => {
        return `${name}_${index.split("+").reduce((sum, term) => sum + productOf(term, constants), 0)}`;
      });
  }
  return text;
}

function productOf(term: string, constants: Readonly<Record<string, number | boolean>>): number {
  return term.split("*").reduce((product, factor) => product * numberOf(factor.trim(), constants), 1);
}

function numberOf(word: string, constants: Readonly<Record<string, number | boolean>>): number {
  const value = /^\d+u?$/.test(word) ? Number.parseInt(word, 10) : constants[word];
  if (typeof value !== "number") throw new RangeError(`${word} is neither a number nor a constant`);
  return value;
}
