import { ArgumentError, describe } from "@lockstep/tensor";
import { Checkpoint } from "./checkpoint.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import type { StoredDTypes } from "./stored-dtypes.ts";
import { Tokenizer } from "./tokenizer.ts";

/** A model folder, read and checked as far as the host needs it: the weights themselves are read by the ranks. */
export interface Model {
  /** Path of the folder. */
  readonly folder: string;
  /** Its config.json, checked. */
  readonly config: ModelConfig;
  /** Its tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Dtypes of the weights as stored: they decide what the ranks keep. */
  readonly storedDTypes: StoredDTypes;
  /** What a user should know about the folder, a line each. */
  readonly warnings: readonly string[];
}

/**
 * Opens a model folder in Hugging Face format.
 * @throws ModelError or SafetensorsError when it cannot be used; ArgumentError unless it is a path
 */
export function openModel(folder: string): Model {
  if (typeof folder !== "string") throw new ArgumentError("openModel", "folder", "a path", describe(folder));
  let config = readModelConfig(folder);
  using checkpoint = Checkpoint.open(folder, config);
  const { storedDTypes, hasOutput, architecture } = checkpoint;
  const warnings: string[] = [];
  if (config.tiedEmbeddings && hasOutput) {
    config = { ...config, tiedEmbeddings: false };
    warnings.push(
      `${folder}: tie_word_embeddings is true, but ${architecture.output} is stored beside the embeddings: it is used.`,
    );
  }
  return { folder, config, tokenizer: Tokenizer.open(folder), storedDTypes, warnings };
}
