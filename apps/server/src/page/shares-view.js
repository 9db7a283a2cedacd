// Each rank's share of the attention, per head, of one layer or the mean of all.
import { find, make, say } from "./elements.js";
import { rankClass, rankMark } from "./rank-marks.js";

/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */
/** @typedef {import("../live/live-messages.ts").StepText} StepText */

const table = find("shares", HTMLTableElement);
const about = find("shares-about", HTMLElement);
const layer = find("layer", HTMLInputElement);
const layerName = find("layer-name", HTMLOutputElement);

/** Cells of the table, by head and rank. @type {HTMLElement[][]} */
let cells = [];
let shape = "";

/**
 * @param {StepMessage} step
 * @param {StepText | undefined} text
 */
export function showShares(step, text) {
  const { shares, position } = text ?? {};
  if (shares === undefined || position === undefined) {
    const gathered = "A step of prompts alone has no shares: keys and values are gathered to the ranks.";
    say(about, step.kind === "prefill" ? gathered : "The shares of this text were not told.");
    return;
  }
  layer.max = String(shares.length);
  layer.disabled = false;
  const chosen = Math.min(Number(layer.value), shares.length);
  say(layerName, chosen === 0 ? "mean of all" : `${chosen} of ${shares.length}`);
  layer.setAttribute("aria-valuetext", layerName.textContent ?? "");
  const heads = chosen === 0 ? meanOf(shares) : (shares[chosen - 1] ?? []);
  say(about, `The token at position ${position}, in step ${step.step}. Rows sum to 100 %.`);
  buildTable(step, heads.length);
  for (const [head, places] of heads.entries()) {
    const group = groupOf(step, head);
    for (const [place, share] of places.entries()) {
      const cell = cells[head]?.[step.ranks.findIndex(({ rank }) => rank === group[place])];
      if (cell === undefined) continue;
      say(cell, `${(share / 10).toFixed(1)} %`);
      cell.style.setProperty("--share", String(share / 1000));
    }
  }
}

/** @param {() => void} listener called when another layer is chosen */
export function onLayer(listener) {
  layer.addEventListener("input", listener);
}

/**
 * Thousandths of each head and place, over all layers.
 * @param {NonNullable<StepText["shares"]>} shares
 * @returns {readonly (readonly number[])[]}
 */
function meanOf(shares) {
  return (shares[0] ?? []).map((places, head) =>
    places.map((_, place) => shares.reduce((sum, heads) => sum + (heads[head]?.[place] ?? 0), 0) / shares.length),
  );
}

/**
 * Ranks of the group that attends for a head.
 * @param {StepMessage} step
 * @param {number} head
 */
function groupOf({ ranks }, head) {
  return ranks.find(({ heads: [start, end] }) => head >= start && head < end)?.group ?? [];
}

/**
 * Makes the table anew when heads or ranks are others.
 * @param {StepMessage} step
 * @param {number} heads
 */
function buildTable(step, heads) {
  const wanted = JSON.stringify([heads, step.ranks.map(({ rank, group, heads: own }) => [rank, group, own])]);
  if (wanted === shape) return;
  shape = wanted;
  cells = [];
  const corner = make("th", "", "head");
  corner.scope = "col";
  const titles = step.ranks.map(({ rank }) => {
    const title = make("th", "share", rankMark(rank));
    title.ariaLabel = `rank ${rank}`;
    title.scope = "col";
    return title;
  });
  const rows = Array.from({ length: heads }, (_, head) => {
    const group = groupOf(step, head);
    const name = make("th", "", String(head));
    name.scope = "row";
    const bars = step.ranks.map(({ rank }) => make("span", group.includes(rank) ? rankClass(rank) : ""));
    cells[head] = bars;
    return make("tr", "", name, ...bars.map((bar) => make("td", "share", bar)));
  });
  table.replaceChildren(make("thead", "", make("tr", "", corner, ...titles)), make("tbody", "", ...rows));
}
