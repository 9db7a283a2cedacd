import type { EngineStep } from "@lockstep/language-model";
import type { OwnerRun, StepMessage, StepText } from "./live-messages.ts";

type ExplainedRank = EngineStep["explanation"]["ranks"][number];

/** Most texts that a message tells about. */
export const MOST_TEXTS = 8;
/** Most texts whose prompts' lengths it tells. */
export const MOST_PROMPTS = 128;
/** Most positions of a text whose owners it tells: the last ones. */
export const MOST_POSITIONS = 256;
/** Most shares of all texts together. The first text's are told in any case. */
export const MOST_SHARES = 24_000;

/**
 * An explained step as a page shows it: of a bounded number of texts, the shares of the last token of each, rounded to
 * thousandths, and the owners of its last positions.
 */
export function stepMessage({ explanation, requests, times }: EngineStep): StepMessage {
  const told = requests.slice(0, MOST_TEXTS);
  let room = MOST_SHARES;
  const texts = told.map((request, index): StepText => {
    const query = explanation.queries.findLast(({ text }) => text === request.text);
    const count = query === undefined ? 0 : countShares(query.shares);
    const held = heldTokens(explanation.ranks, request);
    if (query === undefined || (index > 0 && count > room)) return held;
    room -= count;
    const shares = query.shares.map((heads) => heads.map((places) => places.map(thousandths)));
    return { ...held, position: query.position, shares };
  });
  return {
    step: explanation.step,
    kind: explanation.kind,
    combine: explanation.combine,
    times,
    ranks: explanation.ranks.map(({ rank, dcpGroup, ownHeads, attention, tensorParallel }) => ({
      rank,
      group: dcpGroup,
      heads: [ownHeads.start, ownHeads.end],
      attentionBytes: attention.bytesReceived,
      parallelBytes: tensorParallel.bytesReceived,
    })),
    texts,
    left: requests.length - told.length,
    prompts: requests
      .slice(0, MOST_PROMPTS)
      .flatMap(({ label, promptTokens }): [string, number][] => (label === undefined ? [] : [[label, promptTokens]])),
  };
}

const thousandths = (share: number): number => (Number.isFinite(share) ? Math.round(share * 1000) : 0);

const countShares = (shares: readonly (readonly (readonly number[])[])[]): number =>
  shares.length * (shares[0]?.length ?? 0) * (shares[0]?.[0]?.length ?? 0);

/** What each rank holds of a text. */
function heldTokens(
  ranks: readonly ExplainedRank[],
  { text, promptTokens, length: before, label }: EngineStep["requests"][number],
): StepText {
  const own = ranks.map(({ texts }) => texts.find((one) => one.text === text));
  const length = own.find((one) => one !== undefined)?.length ?? before;
  const from = Math.max(0, length - MOST_POSITIONS);
  // Every DCP group holds the whole text in the same way, each for its own heads: the first stands for all.
  const group = ranks[0]?.dcpGroup ?? [];
  const byPlace = group.map((rank) => own[ranks.findIndex((one) => one.rank === rank)]?.runs ?? []);
  return {
    text,
    ...(label === undefined ? {} : { id: label }),
    promptTokens,
    length,
    held: own.map((one) => one?.held ?? 0),
    from,
    owners: ownerRuns(byPlace, from),
  };
}

/** Runs of positions from `from` on, in order, each with the place of the rank that holds it. */
function ownerRuns(
  byPlace: readonly (readonly { readonly start: number; readonly end: number }[])[],
  from: number,
): OwnerRun[] {
  const runs = byPlace.flatMap((held, place) =>
    held.filter(({ end }) => end > from).map(({ start, end }) => ({ place, start: Math.max(start, from), end })),
  );
  return runs.sort((a, b) => a.start - b.start).map(({ place, start, end }) => [place, end - start]);
}
