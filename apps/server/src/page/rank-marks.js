// What tells ranks apart: a number, and a colour that repeats after eight.
import { make } from "./elements.js";

const COLOURS = 8;

/** @param {number} rank */
export const rankClass = (rank) => `rank-${rank % COLOURS}`;

/**
 * The mark of a rank.
 * @param {number} rank
 */
export const rankMark = (rank) => make("span", `mark ${rankClass(rank)}`, String(rank));
