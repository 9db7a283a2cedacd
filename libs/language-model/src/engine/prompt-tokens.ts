import { ArgumentError, describe } from "@lockstep/tensor";
import { checkTokenIds } from "../generation/token-ids.ts";
import type { Model } from "../model/model.ts";
import { chatPrompt } from "./chat-prompt.ts";
import type { ChatMessage, Prompt } from "./request-options.ts";

/**
 * The token ids of a prompt, whatever it is.
 * @throws ArgumentError for what is none, has no token, or leaves no room in a context of so many tokens;
 *   ChatTemplateError for messages that the model's template refuses, or that it has no template for
 */
export function promptTokens(operation: string, model: Model, prompt: Prompt, maxContext: number): readonly number[] {
  const ids = idsOf(operation, model, prompt);
  if (ids.length === 0) throw new ArgumentError(operation, "prompt", "at least one token", "none");
  if (ids.length < maxContext) return ids;
  const expected = `fewer tokens than the context of ${maxContext} holds`;
  throw new ArgumentError(operation, "prompt", expected, `${ids.length}`);
}

function idsOf(operation: string, model: Model, prompt: Prompt): readonly number[] {
  if (typeof prompt === "string") return model.tokenizer.encode(prompt);
  if (isConversation(prompt)) return chatPrompt(model, prompt, { addGenerationPrompt: true });
  if (!Array.isArray(prompt)) {
    throw new ArgumentError(operation, "prompt", "a text, a list of token ids, or messages", describe(prompt));
  }
  checkTokenIds(operation, "prompt", prompt, model.config.vocabularySize);
  return [...prompt];
}

function isConversation(prompt: readonly number[] | readonly ChatMessage[]): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt) && typeof prompt[0] === "object";
}
