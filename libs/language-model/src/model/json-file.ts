/**
 * JSON and text files of any content, read with errors that name the file and the field.
 *
 * @module @lockstep/language-model/json-file
 */
import { failureCode } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { fileSystem } from "./file-system.ts";

/** An object of a JSON file, with fields of any kind. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Text of a file. Throws {@link ModelError} when it cannot be read, and for pipes and devices, whose reading need not
 * end.
 */
export function readText(path: string): string {
  const files = fileSystem(path);
  let isFile: boolean;
  try {
    isFile = files.statSync(path).isFile();
    if (isFile) return files.readFileSync(path, "utf8");
  } catch (error) {
    throw new ModelError(path, "a readable file", failureCode(error));
  }
  throw new ModelError(path, "a readable file", "something else, such as a directory");
}

/** Parses a JSON file of any content. Throws {@link ModelError} when it is missing or not JSON. */
export function readJson(path: string): unknown {
  return parseJson(path, readText(path));
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ModelError(path, "JSON", "something else");
  }
}

/** Parses a JSON file that holds an object. Throws {@link ModelError} when it does not. */
export function readJsonObject(path: string): JsonObject {
  return parseJsonObject(path, readText(path));
}

/** Parses the text of a JSON file that holds an object. Throws {@link ModelError}, which names `path`, otherwise. */
export function parseJsonObject(path: string, text: string): JsonObject {
  const value = parseJson(path, text);
  if (!isJsonObject(value)) throw new ModelError(path, "a JSON object", "another value");
  return value;
}

/** True when a `value` is an object: not null, and no list. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Sizes beyond this are none that a tensor could have. */
const LARGEST_COUNT = 2 ** 31 - 1;

/**
 * A positive integer below 2^31 of an object of a JSON file. Only an absent key takes the fallback: null is refused.
 * @param within the field that holds the object, for messages
 */
export function readCount(path: string, json: JsonObject, key: string, fallback?: number, within?: string): number {
  const value = Object.hasOwn(json, key) ? json[key] : fallback;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > LARGEST_COUNT) {
    throw new ModelError(path, `${fieldName(key, within)} to be a positive integer below 2^31`, describeJson(value));
  }
  return value;
}

/**
 * The number of field `key` that is positive and finite in f32, where the models compute; `fallback`, `within` and
 * errors as of {@link readCount}.
 */
export function readPositive(path: string, json: JsonObject, key: string, fallback?: number, within?: string): number {
  const value = Object.hasOwn(json, key) ? json[key] : fallback;
  if (typeof value !== "number" || !Number.isFinite(Math.fround(value)) || Math.fround(value) <= 0) {
    throw new ModelError(path, `${fieldName(key, within)} to be a positive number in f32`, describeJson(value));
  }
  return value;
}

/** A value as messages show it, cut where it is long. */
export function describeJson(value: unknown): string {
  if (value === undefined) return "nothing";
  let text: string;
  try {
    text = JSON.stringify(value);
  } catch {
    return "a value nested too deeply";
  }
  return text.length <= 100 ? text : `${text.slice(0, 100)}...`;
}

function fieldName(key: string, within: string | undefined): string {
  return within === undefined ? key : `${within}.${key}`;
}
