// What every rank is doing, while no step ends.
import { find, make, say } from "./elements.js";
import { rankMark } from "./rank-marks.js";
import { reachByKeyboard } from "./scroll-frames.js";

/** @typedef {import("../live/live-messages.ts").FlightMessage} FlightMessage */
/** @typedef {import("../live/live-messages.ts").FlightRank} FlightRank */

const panel = find("flight", HTMLElement);
const about = find("flight-about", HTMLElement);
const groups = find("flight-groups", HTMLElement);

/** @param {FlightMessage} flight */
export function showFlight({ stuckMs, groups: told, problem }) {
  panel.hidden = stuckMs === 0;
  if (stuckMs === 0) return;
  const seconds = Math.round(stuckMs / 1000);
  const behind = [...new Set(told.flatMap(({ ranks }) => ranks.filter((rank) => rank.behind).map(({ rank }) => rank)))];
  const who = behind.length === 0 ? "No rank is behind the others" : `Others wait for rank ${behind.join(", ")}`;
  say(about, problem ?? `No step has ended for ${seconds} s, though requests are computed. ${who}.`);
  // Each group's table stays where it is, so that scrolling and focus do not jump.
  while (groups.childElementCount > told.length) groups.lastElementChild?.remove();
  for (const [index, { group, ranks }] of told.entries()) {
    const table = tableOf(group, ranks);
    const frame = groups.children[index];
    if (frame !== undefined) {
      frame.replaceChildren(table);
      reachByKeyboard(frame);
      continue;
    }
    const made = make("section", "wide scroll", table);
    made.ariaLabel = `Group ${group}`;
    groups.append(made);
    reachByKeyboard(made);
  }
}

/** Takes the record away: steps go on, or nobody tells. */
export function forgetFlight() {
  panel.hidden = true;
}

/**
 * @param {string} group
 * @param {readonly FlightRank[]} ranks
 */
function tableOf(group, ranks) {
  const caption = make("caption", "", `Group ${group}`);
  const titles = ["rank", "started", "last collectives, the latest last", "state"].map((title) => {
    const cell = make("th", "", title);
    cell.scope = "col";
    return cell;
  });
  const rows = ranks.map(({ rank, started, behind, ops }) => {
    const name = make("th", "", rankMark(rank));
    name.scope = "row";
    const lines = ops.map(({ sequence, what }) => make("div", "", `${sequence}: ${what}`));
    const states = ops.map((op) => make("div", "", stateOf(op)));
    const last = make("td", "", ...states);
    if (behind) last.append(make("div", "behind", "◀ behind: the others wait for it"));
    return make("tr", "", name, make("td", "", String(started)), make("td", "", ...lines), last);
  });
  return make("table", "", caption, make("thead", "", make("tr", "", ...titles)), make("tbody", "", ...rows));
}

/** @param {FlightRank["ops"][number]} op */
function stateOf({ state, sinceStartMs, sinceEndMs }) {
  return sinceEndMs === undefined ? `${state} for ${sinceStartMs} ms` : `${state} ${sinceEndMs} ms ago`;
}
