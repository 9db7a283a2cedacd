import { renameSync } from "node:fs";
import { openModel } from "@lockstep/language-model";
import { StoredTensors } from "../../../libs/language-model/test/stored-tensors.ts";
import type { ElementType } from "./element-types.ts";
import { ggufMetadata } from "./metadata.ts";
import { ggufTensors } from "./tensors.ts";
import { writeGguf } from "./write-gguf.ts";

/**
 * Writes a model folder in Hugging Face format as a GGUF file, its matrices in `type`. A file of that name is whole.
 * @throws Error for a model that is not written here
 */
export function convertToGguf(folder: string, path: string, type: ElementType): void {
  const { config } = openModel(folder);
  using stored = new StoredTensors(folder);
  const part = `${path}.part`;
  writeGguf(part, ggufMetadata(folder, config, type), [...ggufTensors(stored, config, type)]);
  renameSync(part, path);
}
