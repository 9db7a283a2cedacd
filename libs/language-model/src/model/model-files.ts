import {
  ArgumentError,
  areShared,
  builtinModule,
  describe,
  failureCode,
  SafetensorsFile,
  sharedBytes,
} from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { fileSystem } from "./file-system.ts";
import { type JsonObject, parseJsonObject, readText } from "./json-file.ts";

/**
 * A model's files in memory, by their names in its folder: config.json, tokenizer.json, model.safetensors and others.
 * Ranks share weights whose bytes lie in a SharedArrayBuffer.
 */
export type ModelFiles = Readonly<Record<string, Uint8Array>>;

/** Where a model's files are: the path of their folder, or the files themselves. */
export type ModelSource = string | ModelFiles;

/** Bytes of a file that are read at a time. */
const PIECE = 4 << 20;

/** The files of one model, wherever they are. */
export interface ModelFolder {
  /** What people call it. */
  readonly name: string;
  /** What errors call a file of it. */
  path(file: string): string;
  /** Whether there is a file of that name. @throws ModelError where that may not be known */
  has(file: string): boolean;
  /** A JSON file that holds an object. @throws ModelError when it is missing, or something else */
  json(file: string): JsonObject;
  /** The text of a file, in UTF-8. @throws ModelError when it is missing */
  text(file: string): string;
  /** The bytes of a file, piece by piece, each to be used before the next is asked for. @throws ModelError */
  pieces(file: string): Iterable<Uint8Array>;
  /** Opens a file of weights. @throws SafetensorsError when it is missing or malformed */
  safetensors(file: string): SafetensorsFile;
}

/** The folder of a source. Nothing is read. @throws ArgumentError unless it is a path, or bytes by names */
export function modelFolder(operation: string, source: ModelSource): ModelFolder {
  if (typeof source === "string") return folderOnDisk(source);
  checkFiles(operation, source);
  return folderInMemory(source);
}

/** The name of a model for people: its folder's path, or "the model" where it has none. */
export function nameOf(source: ModelSource): string {
  return typeof source === "string" ? source : "the model";
}

function folderOnDisk(folder: string): ModelFolder {
  const path = (file: string): string =>
    builtinModule<typeof import("node:path")>("node:path")?.join(folder, file) ?? `${folder}/${file}`;
  return {
    name: folder,
    path,
    has: (file) => isThere(path(file)),
    json: (file) => parseJsonObject(path(file), readText(path(file))),
    text: (file) => readText(path(file)),
    pieces: (file) => piecesOnDisk(path(file)),
    safetensors: (file) => SafetensorsFile.open(path(file)),
  };
}

function* piecesOnDisk(path: string): Generator<Uint8Array> {
  const files = fileSystem(path);
  let descriptor: number | undefined;
  try {
    descriptor = files.openSync(path, "r");
    const buffer = new Uint8Array(PIECE);
    for (let at = 0; ; ) {
      const got = files.readSync(descriptor, buffer, 0, PIECE, at);
      if (got === 0) return;
      at += got;
      yield buffer.subarray(0, got);
    }
  } catch (error) {
    throw new ModelError(path, "a readable file", failureCode(error));
  } finally {
    if (descriptor !== undefined) files.closeSync(descriptor);
  }
}

/** Whether there is something at a path. @throws ModelError where that may not be known */
function isThere(path: string): boolean {
  const files = fileSystem(path);
  try {
    files.statSync(path);
    return true;
  } catch (error) {
    const reason = failureCode(error);
    if (reason === "none") return false;
    throw new ModelError(path, "a readable file, or none", reason);
  }
}

function folderInMemory(files: ModelFiles): ModelFolder {
  const bytesOf = (file: string): Uint8Array | undefined => (Object.hasOwn(files, file) ? files[file] : undefined);
  const needed = (file: string): Uint8Array => {
    const bytes = bytesOf(file);
    if (bytes === undefined) throw new ModelError(file, "a file of that name", "none");
    return bytes;
  };
  // A copy: text decoders refuse shared memory.
  const textOf = (file: string): string => new TextDecoder().decode(needed(file).slice());
  return {
    name: nameOf(files),
    path: (file) => file,
    has: (file) => bytesOf(file) !== undefined,
    json: (file) => parseJsonObject(file, textOf(file)),
    text: textOf,
    *pieces(file) {
      const bytes = needed(file);
      for (let at = 0; at < bytes.length; at += PIECE) yield bytes.slice(at, at + PIECE);
    },
    safetensors: (file) => SafetensorsFile.from(needed(file), file),
  };
}

/**
 * The same files, with weights where every rank reaches them: those in memory of one thread are copied once, here,
 * rather than for each rank.
 */
export function sharedAmongRanks(source: ModelSource): ModelSource {
  if (typeof source === "string") return source;
  const shared = Object.entries(source).map(([name, bytes]): [string, Uint8Array] => {
    if (!name.endsWith(".safetensors") || areShared(bytes)) return [name, bytes];
    const copy = sharedBytes("openModel", bytes.length);
    copy.set(bytes);
    return [name, copy];
  });
  return Object.fromEntries(shared);
}

/**
 * Throws ArgumentError unless ranks that run in so many processes can read a source: what one process has in memory is
 * out of reach of the others.
 */
export function checkReach(operation: string, source: ModelSource, processes: number): void {
  if (processes === 1 || typeof source === "string") return;
  const expected = `the path of a folder, from which the ranks of each of ${processes} processes read`;
  throw new ArgumentError(operation, "model", expected, "files in memory");
}

function checkFiles(operation: string, files: ModelFiles): void {
  const expected = "the path of a model folder, or its files: bytes by their names";
  const isRecord = typeof files === "object" && files !== null && !Array.isArray(files);
  if (!isRecord || Object.keys(files).length === 0) {
    throw new ArgumentError(operation, "source", expected, describe(files));
  }
  for (const [name, bytes] of Object.entries(files)) {
    if (bytes instanceof Uint8Array) continue;
    throw new ArgumentError(operation, `source[${describe(name)}]`, "a Uint8Array", describe(bytes));
  }
}
