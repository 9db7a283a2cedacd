// Other ranks that go on with what an engine's ranks were at.
import { OutOfBlocks } from "@lockstep/attention";
import type { AbortSignalLike } from "@lockstep/dist-groups";
import { LockstepError } from "@lockstep/tensor";
import { MoveFailed } from "../errors.ts";
import { moveLiveContext, type MovedContext } from "../generation/move-live-context.ts";
import type { EngineSizes } from "./resolve-engine-options.ts";
import type { RunningText, ScheduledRequest } from "./scheduler.ts";
import { ServingRanks } from "./serving-ranks.ts";

/** Ranks that know all that others did. */
export interface ResumedRanks {
  readonly ranks: ServingRanks;
  /** Requests whose blocks found no room: they wait, and are computed again. */
  readonly preempted: number;
}

/**
 * Opens other ranks beside these, and moves the context of these there: what is known of texts, and of each request
 * under way all that is stored. Nothing of it is computed again, unless there are fewer blocks: then the requests that
 * came last give theirs up, as ever when blocks run out.
 * @param requests those that are to go on
 * @throws what {@link ServingRanks.open} throws, MoveFailed, the reason of `signal`; these ranks go on then
 */
export async function resumeOnOthers(
  ranks: ServingRanks,
  engine: EngineSizes,
  requests: readonly ScheduledRequest[],
  signal: AbortSignalLike | undefined,
): Promise<ResumedRanks> {
  const isWanted = (): void => {
    if (signal?.aborted === true) throw signal.reason;
  };
  isWanted();
  const others = await ServingRanks.open(engine);
  try {
    const all = await ranks.runningTexts();
    const wanted = all.filter(({ id }) => requests.some((request) => request.id === id));
    const { texts, moved } = await moveTexts(ranks, others, wanted, isWanted);
    await others.resume(moved.image, requests, texts);
    await others.answer();
    isWanted();
    return { ranks: others, preempted: wanted.length - texts.length };
  } catch (error) {
    await others.close().catch(() => {});
    if (error === signal?.reason || error instanceof MoveFailed || !(error instanceof LockstepError)) throw error;
    throw new MoveFailed(error.message, error);
  }
}

/** Moves the sequences of texts, without the last ones where blocks do not suffice, and all that is known. */
async function moveTexts(
  ranks: ServingRanks,
  others: ServingRanks,
  wanted: readonly RunningText[],
  isWanted: () => void,
): Promise<{ readonly texts: readonly RunningText[]; readonly moved: MovedContext }> {
  const { image } = await ranks.storedContext(0);
  for (let count = wanted.length; ; count--) {
    const texts = wanted.slice(0, count);
    const sequences = image.sequences.filter(({ id }) => texts.some(({ sequence }) => sequence === id));
    try {
      const moved = await moveLiveContext(ranks, others, { ...image, sequences }, isWanted);
      return { texts, moved };
    } catch (error) {
      // Found out before anything is written.
      if (!(error instanceof OutOfBlocks) || count === 0) throw error;
    }
  }
}
