// What a page is told of an engine: events of a stream, each with one of these as JSON. All are bounded, whatever the
// engine does. The page's scripts take their types from here.

/** Event "hello": the first of every stream. What does not change. */
export interface HelloMessage {
  /** Name of the model. */
  readonly model: string;
  /** Most tokens of one text. */
  readonly maxContext: number;
  /** Whose texts are told: everybody's, or nobody's, as a page knows its own. */
  readonly texts: "all" | "own";
}

/** Event "status": how busy the engine is. */
export interface StatusMessage {
  readonly state: "ready" | "restarting" | "failed" | "closed";
  /** Ranks that it has now. */
  readonly ranks: number;
  readonly running: number;
  readonly waiting: number;
  /** KV blocks of each rank: all, those that texts hold, those kept for texts that begin alike. */
  readonly blocks: { readonly total: number; readonly used: number; readonly cached: number };
  readonly blockTokens: number;
  /** Totals since the engine was opened. */
  readonly steps: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  readonly preemptions: number;
  readonly restarts: number;
  /** When it was so, in milliseconds by a clock that never goes back: for rates. */
  readonly atMs: number;
}

/** What happened to one text that is generated. */
export interface TextChange {
  /** As in `req-1/0`: the request, and the number of the choice. */
  readonly id: string;
  /** When it has begun just now: where it was asked for. */
  readonly route?: "completions" | "chat";
  /** Tokens that came before `tokens` and are left out. */
  readonly skipped?: number;
  /** Texts of tokens, in order. All are empty when texts are not told. */
  readonly tokens?: readonly string[];
  /** Why it ended: "stop", "length", "cancelled" or "failed". */
  readonly ended?: string;
}

/** Event "tokens": what was generated since the last. */
export interface TokensMessage {
  readonly texts: readonly TextChange[];
  /** Texts that are left out, as there were too many. */
  readonly left: number;
}

/** A run of tokens of one text: place of their rank in its DCP group, and how many. */
export type OwnerRun = readonly [place: number, tokens: number];

/** What a step did for one text. */
export interface StepText {
  /** Number of the request. */
  readonly text: number;
  /** As in {@link TextChange}, if the request has a name. */
  readonly id?: string;
  readonly promptTokens: number;
  /** Tokens stored after the step. */
  readonly length: number;
  /** Tokens that each rank holds, in the order of the ranks. */
  readonly held: readonly number[];
  /** Position of the first token of `owners`: only the last ones are told. */
  readonly from: number;
  readonly owners: readonly OwnerRun[];
  /** Position of the token whose attention `shares` explains. */
  readonly position?: number;
  /** shares[layer][head][place]: thousandths of the attention's result that come from a rank of the DCP group. */
  readonly shares?: readonly (readonly (readonly number[])[])[];
}

/** Event "step": one step, explained. */
export interface StepMessage {
  readonly step: number;
  readonly kind: "decode" | "prefill";
  readonly combine: string;
  readonly times: {
    readonly stepMs: number;
    readonly gatherMs: number;
    readonly attentionMs: number;
    readonly combineMs: number;
  };
  readonly ranks: readonly {
    readonly rank: number;
    /** Ranks that share its KV cache, itself included. */
    readonly group: readonly number[];
    /** Heads [start, end) whose results it keeps. */
    readonly heads: readonly [start: number, end: number];
    /** Bytes that came from peers, for attention and for tensor parallelism. */
    readonly attentionBytes: number;
    readonly parallelBytes: number;
  }[];
  readonly texts: readonly StepText[];
  /** Texts of the step that are left out, as there were too many. */
  readonly left: number;
  /** Of named texts of the step, also of those that are left out: name, and tokens of the prompt. */
  readonly prompts: readonly (readonly [id: string, promptTokens: number])[];
}

/** The last collectives of a rank in a group. */
export interface FlightRank {
  readonly rank: number;
  /** Collectives that it has started. */
  readonly started: number;
  /** It has started fewer than others: they wait for it. */
  readonly behind: boolean;
  /** The oldest first. */
  readonly ops: readonly {
    readonly sequence: number;
    /** What it is, of which type and shape: "allGather f32 [4, 8]". */
    readonly what: string;
    readonly bytes: number;
    readonly state: "waiting" | "moving" | "done" | "failed";
    /** Milliseconds from its start, and from its end if it ended, to when the record was taken. */
    readonly sinceStartMs: number;
    readonly sinceEndMs?: number;
  }[];
}

/** Event "flight": what every rank is doing, as no step has ended for a while; or that steps go on. */
export interface FlightMessage {
  /** Milliseconds without a step; 0 when steps go on, and then there are no groups. */
  readonly stuckMs: number;
  readonly groups: readonly { readonly group: string; readonly ranks: readonly FlightRank[] }[];
  /** Why there is no record, if there is none. */
  readonly problem?: string;
}

/** Event "dropped": how many events were left out of this stream, as its reader was slow. */
export interface DroppedMessage {
  readonly events: number;
}

/** The events of a stream, by name. */
export interface LiveMessages {
  readonly hello: HelloMessage;
  readonly status: StatusMessage;
  readonly tokens: TokensMessage;
  readonly step: StepMessage;
  readonly flight: FlightMessage;
  readonly dropped: DroppedMessage;
}
