import type { AbortSignalLike } from "@lockstep/dist-groups";
import type { ChatMessage } from "../model/chat-message.ts";
import type { SamplingOptions } from "../sampling/sampling-options.ts";
import type { TokenLogprob } from "../sampling/token-logprob.ts";

export type { ChatMessage };

/** What is to be continued: a text, its token ids, or a conversation that the model's chat template makes a text of. */
export type Prompt = string | readonly number[] | readonly ChatMessage[];

/** What is asked of an engine. */
export interface RequestOptions extends SamplingOptions {
  /** Most tokens to generate. Default: as many as the context holds. */
  readonly maxTokens?: number;
  /** The text ends before any of these appears in it: up to 16 texts of up to 256 characters. Default: none. */
  readonly stop?: string | readonly string[];
  /** Go on after tokens that end a text (of config.json and generation_config.json). Default false. */
  readonly ignoreEnd?: boolean;
  /** A name for it, of up to 256 characters, which explained steps tell (`EngineStep.requests`). Default: none. */
  readonly label?: string;
  /** An `AbortSignal`: gives the request up, and its place, when it aborts; the iterator throws the signal's reason. */
  readonly signal?: AbortSignalLike;
}

/**
 * Why a text ended: "stop" by a token that ends it or a text of `stop`; "length" because there are maxTokens, or the
 * context is full.
 */
export type FinishReason = "stop" | "length";

/** A token that was generated. */
export interface GeneratedToken {
  /** Id of the token. */
  readonly id: number;
  /** Its log-probability, if asked for. */
  readonly logprob?: number;
  /** The likeliest tokens in its place, likeliest first, if asked for. */
  readonly top?: readonly TokenLogprob[];
}

/** What a request took. */
export interface Usage {
  /** Tokens of the prompt. */
  readonly promptTokens: number;
  /** Those of them that were not computed, as their keys and values were known from others. */
  readonly cachedTokens: number;
  /** Tokens generated, the one that ended the text included. */
  readonly completionTokens: number;
}

/** A part of a generated text. The parts, joined, are the text. */
export interface GeneratedPart {
  /** Text that is final with this part: empty in the middle of a character, and of what may become a stop text. */
  readonly text: string;
  /** Tokens that came with it. */
  readonly tokens: readonly GeneratedToken[];
  /** In the last part only: why the text ended. */
  readonly finish?: FinishReason;
  /** In the last part only: what it took. */
  readonly usage?: Usage;
}
