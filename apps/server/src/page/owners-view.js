// Who holds which token of a text: a lane for each rank, over the last positions.
import { draw, find, make, say } from "./elements.js";
import { rankClass, rankMark } from "./rank-marks.js";
import { tokensInARow } from "./token-owners.js";

/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */
/** @typedef {import("../live/live-messages.ts").StepText} StepText */

const table = find("owners", HTMLTableElement);
const about = find("owners-about", HTMLElement);

/**
 * @param {StepMessage} step
 * @param {StepText | undefined} text
 */
export function showOwners({ ranks }, text) {
  if (text === undefined) {
    say(about, "The text that was chosen is not in the step.");
    return;
  }
  const { from, length, promptTokens, held } = text;
  const cut = from === 0 ? "" : `, of which the last ${length - from} are drawn`;
  say(about, `${length} tokens, ${promptTokens} of them in the prompt${cut}. ${runsText()}`);
  const head = make("tr", "", headCell("rank", ""), headCell(`positions ${from} to ${length - 1}`, ""));
  head.append(headCell("holds", "number"));
  const rows = ranks.map(({ rank, group }, index) => {
    const name = make("th", "", rankMark(rank));
    name.scope = "row";
    const lane = make("td", "lane", laneOf(text, group.indexOf(rank), rank));
    return make("tr", "", name, lane, make("td", "number", String(held[index] ?? 0)));
  });
  table.replaceChildren(make("thead", "", head), make("tbody", "", ...rows));
}

/**
 * @param {string} text
 * @param {string} className
 */
function headCell(text, className) {
  const cell = make("th", className, text);
  cell.scope = "col";
  return cell;
}

function runsText() {
  const inARow = tokensInARow();
  return inARow === 0 ? "" : `${inARow} in a row go to one rank.`;
}

/**
 * @param {StepText} text
 * @param {number} place of the rank in its DCP group
 * @param {number} rank
 */
function laneOf({ owners, from, length, promptTokens }, place, rank) {
  const width = Math.max(1, length - from);
  const lane = draw("svg", { viewBox: `0 0 ${width} 10`, preserveAspectRatio: "none", "aria-hidden": "true" });
  lane.setAttribute("class", rankClass(rank));
  let at = 0;
  for (const [owner, tokens] of owners) {
    if (owner === place) lane.append(draw("rect", { x: at, y: 0, width: tokens, height: 10 }));
    at += tokens;
  }
  const end = promptTokens - from;
  if (end > 0 && end < width) {
    const line = draw("rect", { x: end - width / 400, y: 0, width: width / 200, height: 10 });
    line.setAttribute("class", "prompt-end");
    lane.append(line);
  }
  return lane;
}
