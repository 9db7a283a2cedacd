// Reading of JSON whose shape nobody vouches for.

/** A JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Whether it is an object, and no list. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether it is a list of texts. */
export function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

/** Own entries of an object, in order. */
export function entriesOf(value: JsonObject): [string, unknown][] {
  return Object.entries(value);
}

/** An own field; undefined where there is none, whatever the prototype has. */
export function field(value: JsonObject, name: string): unknown {
  return Object.hasOwn(value, name) ? value[name] : undefined;
}
