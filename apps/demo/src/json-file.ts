import { readFileSync } from "node:fs";
import { ModelError } from "./errors.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Parses a JSON file of any content. Throws {@link ModelError} when it is missing or not JSON. */
export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new ModelError(path, "a readable file", "none");
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new ModelError(path, "JSON", "something else");
  }
}

/** Parses a JSON file that holds an object. Throws {@link ModelError} when it does not. */
export function readJsonObject(path: string): JsonObject {
  const value = readJson(path);
  if (!isJsonObject(value)) throw new ModelError(path, "a JSON object", "another value");
  return value;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
