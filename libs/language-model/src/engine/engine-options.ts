import type { GeneratorOptions } from "../generation/generator-options.ts";

/** How a model is spread, and how many requests it serves. */
export interface EngineOptions
  extends Omit<GeneratorOptions, "texts" | "capacity" | "maxDraft" | "prefillChunk" | "calibration" | "kvScales"> {
  /** Most tokens of one text, prompt included. Default: as many as the model was made for, or as fit. */
  readonly maxContext?: number;
  /** Tokens that the KV cache holds over all texts, rounded up to whole blocks. Default: 8 of the longest, if they fit. */
  readonly kvTokens?: number;
  /** Most requests that are computed at once. Default 64. */
  readonly maxRunning?: number;
  /**
   * Most requests beyond `maxRunning`, which wait for their turn; more are refused with {@link EngineBusy}. Fewer than
   * `maxRunning` are computed, and more wait, where blocks do not suffice. Default 256.
   */
  readonly maxWaiting?: number;
  /** Requests that begin alike share what was computed for it ("prefix cache"). Default true. */
  readonly prefixCache?: boolean;
  /**
   * Folder on disk where known beginnings outlive the ranks: loaded when these open, if there are any, and saved by
   * {@link Engine.savePrefixes}. Those of another checkpoint or with other rows (kvDtype) are refused;
   * those of another number of ranks or layout are dealt anew. Default: none.
   */
  readonly prefixFolder?: string;
  /**
   * Most bytes of each rank's file there. Those that were used last are saved first; while they are written nothing is
   * computed. Default 256 MiB.
   */
  readonly prefixBytes?: number;
  /** Times that ranks are opened again after they failed, within a minute, before the engine gives up. Default 3. */
  readonly maxRestarts?: number;
}
