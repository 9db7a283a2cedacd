import { Checkpoint } from "./checkpoint.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import { type ModelSource, modelFolder, sharedAmongRanks } from "./model-files.ts";
import type { StoredDTypes } from "./stored-dtypes.ts";
import { Tokenizer } from "./tokenizer.ts";

/** A model, read and checked as far as the host needs it: the weights themselves are read by the ranks. */
export interface Model {
  /** Path of its folder, or what errors call a model whose files are in memory. */
  readonly folder: string;
  /** Where its ranks read it. */
  readonly source: ModelSource;
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
 * Opens a model in Hugging Face format: its folder, or its files in memory, as {@link fetchModel} fetches them. Weights
 * in memory that ranks do not share are copied to some that they do.
 * @throws ModelError or SafetensorsError when it cannot be used; ArgumentError unless it is a path, or bytes by names
 */
export function openModel(source: ModelSource): Model {
  const folder = modelFolder("openModel", source);
  let config = readModelConfig(folder);
  using checkpoint = Checkpoint.open(folder, config);
  const { storedDTypes, hasOutput, architecture } = checkpoint;
  const warnings: string[] = [];
  if (config.tiedEmbeddings && hasOutput) {
    config = { ...config, tiedEmbeddings: false };
    const stored = `${architecture.output} is stored beside the embeddings`;
    warnings.push(`${folder.name}: tie_word_embeddings is true, but ${stored}: it is used.`);
  }
  const { name } = folder;
  const tokenizer = Tokenizer.open(source);
  return { folder: name, source: sharedAmongRanks(source), config, tokenizer, storedDTypes, warnings };
}
