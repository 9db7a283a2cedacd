import type { ChatMessage } from "@lockstep/language-model";

/** The model's tokenizer, as the server needs it. */
export interface PromptTokenizer {
  /** Characters of the longest token: a text of more than so many times as many cannot fit a context. */
  readonly longestToken: number;
  /** Token ids of a text, special tokens that the model wants at the start included. */
  encode(text: string): Promise<readonly number[]> | readonly number[];
  /** Token ids of what the model's chat template makes of messages. @throws ChatTemplateError */
  encodeChat(messages: readonly ChatMessage[]): Promise<readonly number[]> | readonly number[];
  /** Text of a token behind others, with the space that it may begin with; empty if it has none. */
  textOf(token: number): string;
  /** Text of tokens; parts of characters show as U+FFFD. */
  decode(tokens: readonly number[]): string;
}
