import type { ModuleAddress, RankWorkerSource } from "./worker-like.ts";

/** A world's options with their defaults filled in. */
export interface WorldSettings {
  readonly size: number;
  /** One of the two is given. */
  readonly program: ModuleAddress | undefined;
  readonly worker: RankWorkerSource | undefined;
  readonly options: unknown;
  readonly heapBytesPerRank: number | undefined;
  readonly heapBytesHost: number | undefined;
  readonly groups: Readonly<Record<string, readonly (readonly number[])[]>>;
  readonly deadlineMs: number;
  readonly startDeadlineMs: number;
  readonly closeDeadlineMs: number;
  /** Bytes of a staging area. */
  readonly stagingBytes: number | undefined;
  /** Largest message, in bytes that a rank brings, that is staged. */
  readonly stagedLimit: number | undefined;
  /** Value of the progress words before the first collective. */
  readonly initialProgress: number | undefined;
}
