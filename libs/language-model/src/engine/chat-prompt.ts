import { ChatTemplateError } from "../errors.ts";
import type { ChatMessage } from "../model/chat-message.ts";
import type { RenderOptions } from "../model/chat-template.ts";
import type { Model } from "../model/model.ts";

/**
 * The token ids with which a model begins its answer to a conversation: of the text that its chat template makes. That
 * has the special tokens in it, so that none are added, as transformers' `apply_chat_template` has it. Special tokens
 * that stand in a message are special tokens too: who passes on what strangers write may want to look for them.
 * @throws ChatTemplateError when the model has no chat template that can be used, or it refuses the messages;
 *   ArgumentError for what are no messages
 */
export function chatPrompt(
  model: Pick<Model, "chatTemplate" | "chatProblem" | "tokenizer">,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
): number[] {
  const { chatTemplate, chatProblem = "the model has none", tokenizer } = model;
  if (chatTemplate === undefined) throw new ChatTemplateError(chatProblem);
  return tokenizer.encode(chatTemplate.render(messages, options), { addSpecialTokens: false });
}
