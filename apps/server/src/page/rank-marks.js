// What tells ranks apart: a number, a colour that repeats after eight, and the kind of line under tokens.
import { make } from "./elements.js";

const COLOURS = 8;

/** @param {number} rank */
export const rankClass = (rank) => `rank-${rank % COLOURS}`;

/**
 * The mark of a rank.
 * @param {number} rank
 */
export const rankMark = (rank) => make("span", `mark ${rankClass(rank)}`, String(rank));

const LINES = 4;

/** @param {number} place of a rank in its DCP group */
export const lineClass = (place) => `line-${place % LINES}`;
