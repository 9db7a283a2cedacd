// A worker that makes token ids of long texts, which take up to seconds, so that the server answers others meanwhile.
import { type ChatMessage, ChatTemplateError, openModel } from "@lockstep/language-model";
import { type Tokens, tokensOf } from "./tokens.ts";

/** What it is told: first the model's folder, then texts. */
export type ToTokenizer =
  | { readonly open: string }
  | { readonly text: string }
  | { readonly messages: readonly ChatMessage[] };

/** What it says of each text, in their order. */
export type FromTokenizer = { readonly ids: Uint32Array } | { readonly failure: string; readonly isTemplates: boolean };

/** The scope of a worker, whose types are not those that the rest is checked with. */
declare const self: {
  onmessage: ((event: MessageEvent<ToTokenizer>) => void) | null;
  postMessage(message: FromTokenizer): void;
};

let tokens: Tokens | undefined;

self.onmessage = ({ data }) => {
  if ("open" in data) {
    tokens = tokensOf(openModel(data.open));
    return;
  }
  try {
    if (tokens === undefined) throw new Error("the tokenizer was not opened");
    const ids = Uint32Array.from("text" in data ? tokens.encode(data.text) : tokens.encodeChat(data.messages));
    self.postMessage({ ids });
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    const isTemplates = error instanceof ChatTemplateError;
    self.postMessage({ failure, isTemplates });
  }
};
