import { type ChatMessage, ChatTemplateError, type Model } from "@lockstep/language-model";

/** Makes token ids of what is asked of a model, and texts of them. */
export interface Tokens {
  /** Of a text, special tokens that the model wants at the start included. */
  encode(text: string): number[];
  /** Of what the chat template makes of messages, which has its special tokens. @throws ChatTemplateError */
  encodeChat(messages: readonly ChatMessage[]): number[];
  /** Text of a token behind others, empty if it has none: decoders strip the space before the first of a text. */
  textOf(token: number): string;
  /** Text of tokens; parts of characters show as U+FFFD. */
  decode(tokens: readonly number[]): string;
}

/** Those of a model. */
export function tokensOf({ tokenizer, chatTemplate }: Pick<Model, "tokenizer" | "chatTemplate">): Tokens {
  return {
    encode: (text) => tokenizer.encode(text),
    encodeChat(messages) {
      if (chatTemplate === undefined) throw new ChatTemplateError("the model has none");
      return tokenizer.encode(chatTemplate.render(messages), { addSpecialTokens: false });
    },
    decode: (ids) => tokenizer.decode(ids),
    textOf: (token) => tokenizer.decode([token, token]).slice(tokenizer.decode([token]).length),
  };
}
