// The files of a model folder. The file system is asked for when a folder is opened, so that nothing imports node:fs:
// browsers have none, and are told what to do.

import { builtinModule } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";

type Files = typeof import("node:fs");

/** The file system. @throws ModelError, which names `path`, where there is none */
export function fileSystem(path: string): Files {
  const found = builtinModule<Files>("node:fs");
  if (found !== undefined) return found;
  const advice = "none, as in browsers: run the model in Bun, Deno or Node, and send the page its text";
  throw new ModelError(path, "a file system to read a model folder from", advice);
}

/** Whether there is a file or folder at `path`. @throws ModelError where there is no file system */
export function isThere(path: string): boolean {
  return fileSystem(path).existsSync(path);
}

/** Path of a file of a folder. */
export function pathIn(folder: string, name: string): string {
  return builtinModule<typeof import("node:path")>("node:path")?.join(folder, name) ?? `${folder}/${name}`;
}
