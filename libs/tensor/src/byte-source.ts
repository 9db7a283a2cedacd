import { describe } from "./describe.ts";
import { ArgumentError, SafetensorsError } from "./errors.ts";
import { builtinModule } from "./runtime.ts";

/** Bytes that are read piece by piece: an open file, or bytes in memory. */
export interface ByteSource {
  /** What errors call it: a path, where there is one. */
  readonly name: string;
  readonly byteLength: number;
  /**
   * Reads at most `length` bytes from `position` on into `target`, from its byte `at` on. How many were read: 0 at the
   * end. @throws SafetensorsError, which names `what`, when they cannot be read
   */
  read(what: string, target: Uint8Array, at: number, length: number, position: number): number;
  close(): void;
}

/** What is used of `node:fs`. Declared here so that declarations type-check where Node's types are unknown. */
interface FileSystem {
  statSync(path: string): { isFile(): boolean };
  openSync(path: string, flags: "r" | "w"): number;
  fstatSync(descriptor: number): { readonly size: number };
  readSync(descriptor: number, target: Uint8Array, at: number, length: number, position: number): number;
  closeSync(descriptor: number): void;
  writeFileSync(path: string, bytes: Uint8Array): void;
  writeSync(descriptor: number, bytes: Uint8Array, at: number, length: number): number;
  fsyncSync(descriptor: number): void;
  renameSync(from: string, to: string): void;
  rmSync(path: string, options: { readonly force: boolean }): void;
}

/** The file system. @throws SafetensorsError, with `advice`, where there is none, as in browsers */
export function fileSystem(path: string, advice: string): FileSystem {
  const found = builtinModule<FileSystem>("node:fs");
  if (found === undefined) throw new SafetensorsError(path, "a file system", "none, as in browsers", ` ${advice}`);
  return found;
}

/** Opens a file. @throws SafetensorsError when there is none at `path`, or it cannot be read */
export function openFile(path: string): ByteSource {
  const files = fileSystem(path, "Fetch the file, and read it by SafetensorsFile.from(bytes).");
  let descriptor: number;
  try {
    // Asked before it is opened: opening a pipe waits for somebody to write.
    if (!files.statSync(path).isFile()) {
      throw new SafetensorsError(path, "a file", "something else, such as a directory");
    }
    descriptor = files.openSync(path, "r");
  } catch (error) {
    if (error instanceof SafetensorsError) throw error;
    throw new SafetensorsError(path, "a readable file", failureCode(error));
  }
  let byteLength: number;
  try {
    byteLength = files.fstatSync(descriptor).size;
  } catch (error) {
    files.closeSync(descriptor);
    throw new SafetensorsError(path, "a readable file", failureCode(error));
  }
  return {
    name: path,
    byteLength,
    read(what, target, at, length, position) {
      try {
        return files.readSync(descriptor, target, at, length, position);
      } catch (error) {
        throw new SafetensorsError(path, `to read ${what}`, failureCode(error));
      }
    },
    close: () => files.closeSync(descriptor),
  };
}

/** Bytes that are there already, of which nothing is copied. @throws ArgumentError unless they are bytes */
export function bytesInMemory(operation: string, name: string, bytes: Uint8Array): ByteSource {
  if (!(bytes instanceof Uint8Array)) {
    const isBuffer = Object.prototype.toString.call(bytes).endsWith("ArrayBuffer]");
    const advice = isBuffer ? "Give new Uint8Array(buffer)." : "";
    throw new ArgumentError(operation, "bytes", "a Uint8Array", describe(bytes), advice);
  }
  return {
    name,
    byteLength: bytes.length,
    read(_what, target, at, length, position) {
      const some = bytes.subarray(position, position + length);
      target.set(some, at);
      return some.length;
    },
    close() {},
  };
}

/**
 * Why a call of the file system failed, in words; a file that does not exist is "none".
 * @param error what the call threw
 */
export function failureCode(error: unknown): string {
  if (!(error instanceof Error)) return "a failure";
  if (error.name === "NotCapable") {
    // Deno names the flag in its message only.
    const flag = /--allow-\w+/.exec(error.message)?.[0] ?? "--allow-read";
    return `no permission to ${flag === "--allow-write" ? "write" : "read"}: in Deno run with ${flag}`;
  }
  const code = "code" in error ? String(error.code) : "a failure";
  if (code === "ENOENT" || code === "ENOTDIR") return "none";
  return code === "EACCES" || code === "EPERM" ? `no permission (${code})` : code;
}
