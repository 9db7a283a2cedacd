const LONGEST = 1_000;

/** A text that is cut where it is too long. */
export function shortened(text: string, longest = LONGEST): string {
  return text.length <= longest ? text : `${text.slice(0, longest)}... (${text.length} characters in all)`;
}

/** Any value in words, whatever it does when it is looked at. */
export function printedValue(value: unknown): string {
  try {
    if (typeof value === "symbol") return shortened(value.toString());
    if (typeof value === "function")
      return shortened(`the function ${String(Reflect.get(value, "name")) || "(anonymous)"}`);
    if (value instanceof Error) return shortened(`${String(value.name)}: ${String(value.message)}`);
    // What joins its elements would make a text of any size.
    if (Array.isArray(value)) return `a list of ${value.length} elements`;
    if (ArrayBuffer.isView(value)) return `a typed array of ${value.byteLength} bytes`;
    return shortened(String(value));
  } catch {
    // No toString, one that throws, or a proxy.
    return typeof value === "object" ? "an object that cannot be printed" : `a ${typeof value} that cannot be printed`;
  }
}

/** A property, or undefined where looking at it throws. */
export function readSafely(object: object, key: string): unknown {
  try {
    return Reflect.get(object, key);
  } catch {
    return undefined;
  }
}

/** `Object.keys`, or undefined where looking throws. */
export function keysSafely(object: object): readonly string[] | undefined {
  try {
    return Object.keys(object);
  } catch {
    return undefined;
  }
}

/** `Array.isArray`, which a revoked proxy throws from. */
export function isList(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** `instanceof`, which a proxy may throw from. */
export function isInstance<T>(value: unknown, of: abstract new (...args: never[]) => T): value is T {
  try {
    return value instanceof of;
  } catch {
    return false;
  }
}
