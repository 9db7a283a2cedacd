// Which checkpoint it is that keys and values were computed with.
import { weightFiles } from "../model/checkpoint.ts";
import { type ModelSource, modelFolder } from "../model/model-files.ts";
import { Sha256 } from "./sha256.ts";

/** Pieces after which others get their turn. */
const PIECES_AT_A_TIME = 8;

/**
 * SHA-256 of a checkpoint, in hexadecimal digits: over all bytes of config.json and of every file of weights, with
 * their names and sizes. Nothing is sampled, so weights that differ in one bit differ here. It reads as much as loading
 * does.
 * @throws ModelError when files are missing or cannot be read; PrefixStoreError where there is no SHA-256, as in
 * browsers
 */
export async function checkpointFingerprint(model: ModelSource): Promise<string> {
  const folder = modelFolder("checkpointFingerprint", model);
  const whole = new Sha256(folder.name);
  let pieces = 0;
  for (const file of ["config.json", ...weightFiles(folder)]) {
    const contents = new Sha256(folder.name);
    for (const piece of folder.pieces(file)) {
      contents.add(piece);
      if (++pieces % PIECES_AT_A_TIME === 0) await new Promise((resolve) => setTimeout(resolve));
    }
    whole.add(new TextEncoder().encode(JSON.stringify([file, contents.hex()])));
  }
  return whole.hex();
}
