/** What a request may ask for, and how long it may take to ask. */
export interface Limits {
  /** Bytes of a request's body. */
  readonly bodyBytes: number;
  /** Milliseconds until a body must have come. */
  readonly bodyMs: number;
  /** Objects and lists within one another in a body. */
  readonly jsonDepth: number;
  /** Fields of all objects of a body together. */
  readonly jsonFields: number;
  /** Texts that one request may ask for: prompts times `n`. */
  readonly choices: number;
  /** Messages of a conversation. */
  readonly messages: number;
  /** Parts of a message. */
  readonly parts: number;
  /** Requests that generate at once, streams and others. */
  readonly requests: number;
  /** Milliseconds that a reader of a stream may take nothing for while there is something to take. */
  readonly stalledMs: number;
  /** Milliseconds without an event after which a stream says that it lives, for clients and proxies that wait. */
  readonly keepAliveMs: number;
}

/** Texts of `stop`, and characters of each: what the engine takes. */
export const MOST_STOPS = 16;
export const LONGEST_STOP = 256;

/** Ranks that a server may have. */
export const MOST_RANKS = 64;

export const DEFAULT_LIMITS: Limits = {
  bodyBytes: 4 << 20,
  bodyMs: 30_000,
  jsonDepth: 32,
  jsonFields: 16_384,
  choices: 32,
  messages: 1024,
  parts: 32,
  requests: 512,
  stalledMs: 60_000,
  keepAliveMs: 10_000,
};
