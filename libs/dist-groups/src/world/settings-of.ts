import type { Program } from "../rank/rank-context.ts";
import type { WorldSettings } from "../site/world-settings.ts";
import { checkWorldOptions } from "./check-world-options.ts";
import type { WorldOptions } from "./world-options.ts";

const DEFAULT_DEADLINE_MS = 30_000;
const DEFAULT_START_DEADLINE_MS = 60_000;
const DEFAULT_CLOSE_DEADLINE_MS = 5_000;

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
