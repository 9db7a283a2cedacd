// What tells checkpoints apart without reading all of them.
import { failureCode } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { weightFiles } from "./checkpoint.ts";
import { fileSystem } from "./file-system.ts";
import type { ModelFolder } from "./model-files.ts";

/** Bytes that are read at a place, and places of a file, its beginning and its end among them. */
const PIECE = 4096;
const PLACES = 64;

/**
 * SHA-256, in hexadecimal digits, of names, sizes and some bytes of the files of weights of a folder on disk: of the
 * beginning and the end of each, and of places at even distances between. Training changes nearly every weight, so that
 * checkpoints of the same model differ here; `checkpointFingerprint` reads every byte.
 * @throws ModelError when a file is missing or cannot be read
 */
export async function checkpointSample(folder: ModelFolder): Promise<string> {
  const pieces = weightFiles(folder).flatMap((file) => sampleOf(folder, file));
  const all = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", all));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sampleOf(folder: ModelFolder, file: string): Uint8Array[] {
  const path = folder.path(file);
  const files = fileSystem(path);
  let descriptor: number | undefined;
  try {
    const { size } = files.statSync(path);
    descriptor = files.openSync(path, "r");
    const parts = [new TextEncoder().encode(JSON.stringify([file, size]))];
    const last = Math.max(0, size - PIECE);
    for (let place = 0; place < PLACES; place++) {
      const piece = new Uint8Array(PIECE);
      const got = files.readSync(descriptor, piece, 0, PIECE, Math.floor((last * place) / (PLACES - 1)));
      parts.push(piece.subarray(0, got));
    }
    return parts;
  } catch (error) {
    throw new ModelError(path, "a readable file", failureCode(error));
  } finally {
    if (descriptor !== undefined) files.closeSync(descriptor);
  }
}
