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

/** A positive integer of an object of a JSON file; `within` is the field that holds the object, for messages. */
export function readCount(path: string, json: JsonObject, key: string, fallback?: number, within?: string): number {
  const value = json[key] ?? fallback;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) {
    throw new ModelError(path, `${fieldName(key, within)} to be a positive integer`, describeJson(value));
  }
  return value;
}

/** A positive number, as {@link readCount}. */
export function readPositive(path: string, json: JsonObject, key: string, fallback?: number, within?: string): number {
  const value = json[key] ?? fallback;
  if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) {
    throw new ModelError(path, `${fieldName(key, within)} to be a positive number`, describeJson(value));
  }
  return value;
}

/** A value as messages show it. */
export function describeJson(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}

function fieldName(key: string, within: string | undefined): string {
  return within === undefined ? key : `${within}.${key}`;
}
