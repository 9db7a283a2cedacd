import type { Program } from "../rank/rank-context.ts";
import { checkWorldOptions } from "./check-world-options.ts";
import type { ModuleAddress, RankWorkerSource } from "./worker-like.ts";
import type { WorldOptions } from "./world-options.ts";

const DEFAULT_DEADLINE_MS = 30_000;
const DEFAULT_START_DEADLINE_MS = 60_000;
const DEFAULT_CLOSE_DEADLINE_MS = 5_000;

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

/** Checks the options of a world and fills in their defaults. */
export function settingsOf<P extends Program>(options: WorldOptions<P>): WorldSettings {
  checkWorldOptions(options);
  return {
    size: options.size,
    program: options.program,
    worker: options.worker,
    options: options.options,
    heapBytesPerRank: options.heapBytesPerRank,
    heapBytesHost: options.heapBytesHost,
    groups: options.groups ?? {},
    deadlineMs: options.deadlineMs ?? DEFAULT_DEADLINE_MS,
    startDeadlineMs: options.startDeadlineMs ?? DEFAULT_START_DEADLINE_MS,
    closeDeadlineMs: options.closeDeadlineMs ?? DEFAULT_CLOSE_DEADLINE_MS,
    stagingBytes: options.stagingBytes,
    stagedLimit: options.stagedLimit,
    initialProgress: options.initialProgress,
  };
}
