/** A value of any kind in a few words, for error messages: never throws, and never prints much. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
    case "number":
    case "boolean":
    case "undefined":
    case "bigint":
      return String(value);
    case "symbol":
      return "a symbol";
    case "function":
      return "a function";
    case "object":
      return value === null ? "null" : isArray(value) ? "an array" : "an object";
  }
}

/** As Array.isArray, which throws for a revoked proxy. */
function isArray(value: object): boolean {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** A `value` as {@link describe} says it, but a name without quotes: for choices out of a list of names. */
export function describeName(value: unknown): string {
  return typeof value === "string" && /^[\w.-]{1,60}$/.test(value) ? value : describe(value);
}
