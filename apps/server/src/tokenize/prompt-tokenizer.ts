import type { ChatMessage } from "@lockstep/language-model";

/** The model's tokenizer, as the server needs it. */
export interface PromptTokenizer {
  /** Characters of the longest token: a text of more than so many times as many cannot fit a context. */
  readonly longestToken: number;
  /**
   * Token ids of a text, special tokens that the model wants at the start included. When `signal` aborts, the work ends
   * with its reason, and no longer holds others up.
   */
  encode(text: string, signal?: AbortSignal): Promise<readonly number[]> | readonly number[];
  /** Token ids of what the model's chat template makes of messages; otherwise as `encode`. @throws ChatTemplateError */
  encodeChat(messages: readonly ChatMessage[], signal?: AbortSignal): Promise<readonly number[]> | readonly number[];
  /** Text of a token behind others, with the space that it may begin with; empty if it has none. */
  textOf(token: number): string;
  /** Text of tokens; parts of characters show as U+FFFD. */
  decode(tokens: readonly number[]): string;
}
