/** The model's tokenizer, as the server needs it. */
export interface PromptTokenizer {
  /** Characters of the longest token: a text of more than so many times as many cannot fit a context. */
  readonly longestToken: number;
  /** Token ids of a text, special tokens that the model wants at the start included. */
  encode(text: string): Promise<readonly number[]> | readonly number[];
  /** Text of a token, empty if it has none. */
  textOf(token: number): string;
}
