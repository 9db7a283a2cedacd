// Which rank holds which token of which text, as far as explained steps told.

/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */

const MOST_TEXTS = 512;

/** Tokens in a row that one rank holds; 0 while it is not known. */
let interleave = 0;
/** @type {StepMessage["ranks"]} */
let ranks = [];
/** Tokens of the prompts of texts, the latest last. @type {Map<string, number>} */
const prompts = new Map();

/** @param {StepMessage} step */
export function learnOwners(step) {
  ranks = step.ranks;
  for (const { owners, from } of step.texts) {
    // The first run may be cut off, and the last one goes on.
    const whole = owners.slice(from === 0 ? 0 : 1, -1)[0];
    if (whole !== undefined) interleave = whole[1];
  }
  for (const [id, tokens] of step.prompts) {
    prompts.delete(id);
    prompts.set(id, tokens);
  }
  for (const id of prompts.keys()) {
    if (prompts.size <= MOST_TEXTS) break;
    prompts.delete(id);
  }
}

/** Forgets all: the ranks may be others now. */
export function forgetOwners() {
  interleave = 0;
  ranks = [];
  prompts.clear();
}

/** Tokens in a row that one rank holds; 0 while it is not known. */
export const tokensInARow = () => interleave;

/**
 * Place of a rank in its DCP group.
 * @param {number} rank
 */
export const placeOf = (rank) => ranks.find((one) => one.rank === rank)?.group.indexOf(rank) ?? 0;

/**
 * The ranks that hold a generated token, one of each DCP group, or undefined while it is not known.
 * @param {string} id of the text
 * @param {number} index of the token, from 0, among those that were generated
 * @returns {readonly number[] | undefined}
 */
export function holdersOf(id, index) {
  const prompt = prompts.get(id);
  const [first] = ranks;
  if (prompt === undefined || first === undefined) return undefined;
  // Alone, a rank holds all.
  const inARow = first.group.length === 1 ? 1 : interleave;
  if (inARow === 0) return undefined;
  const place = Math.floor((prompt + index) / inARow) % first.group.length;
  return [...new Set(ranks.map(({ group }) => group[place]))].filter((rank) => rank !== undefined);
}
