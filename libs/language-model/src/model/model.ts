import { ModelError } from "../errors.ts";
import { ChatTemplate } from "./chat-template.ts";
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
  /** Makes texts of conversations; undefined when the model has no chat template, or none that can be used. */
  readonly chatTemplate: ChatTemplate | undefined;
  /** Why there is no `chatTemplate`: the file and the line of one that cannot be used. Undefined when there is one. */
  readonly chatProblem: string | undefined;
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
  const chat = openChat(source, name);
  if (chat.warning !== undefined) warnings.push(chat.warning);
  return {
    folder: name,
    source: sharedAmongRanks(source),
    config,
    tokenizer,
    chatTemplate: chat.chatTemplate,
    chatProblem: chat.chatProblem,
    storedDTypes,
    warnings,
  };
}

/** The chat template, or why there is none: a model whose template is broken still continues texts. */
function openChat(
  source: ModelSource,
  name: string,
): Pick<Model, "chatTemplate" | "chatProblem"> & { readonly warning?: string } {
  try {
    const chatTemplate = ChatTemplate.open(source);
    const chatProblem = chatTemplate === undefined ? `${name} has no chat template` : undefined;
    return { chatTemplate, chatProblem };
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    const { message } = error;
    return { chatTemplate: undefined, chatProblem: message, warning: `${message} Conversations are refused.` };
  }
}
