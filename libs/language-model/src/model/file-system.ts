// The file system, asked for when a file is opened, so that nothing imports node:fs: browsers have none.

import { builtinModule } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";

/** What is used of `node:fs`. Declared here so that declarations type-check where Node's types are unknown. */
interface FileSystem {
  statSync(path: string): { isFile(): boolean; readonly size: number };
  readFileSync(path: string, encoding: "utf8"): string;
  openSync(path: string, flags: "r"): number;
  readSync(descriptor: number, target: Uint8Array, at: number, length: number, position: number): number;
  closeSync(descriptor: number): void;
}

/** The file system. @throws ModelError, which names `path`, where there is none */
export function fileSystem(path: string): FileSystem {
  const found = builtinModule<FileSystem>("node:fs");
  if (found !== undefined) return found;
  const advice = "none, as in browsers: give openModel the files that fetchModel has fetched";
  throw new ModelError(path, "a file system to read from", advice);
}
