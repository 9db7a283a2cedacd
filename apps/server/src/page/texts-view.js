// Tokens flowing in: the latest texts, with the ranks that hold them.
import { find, make, say } from "./elements.js";
import { lineClass, rankClass, rankMark } from "./rank-marks.js";
import { holdersOf, placeOf, tokensInARow } from "./token-owners.js";

/** @typedef {import("../live/live-messages.ts").TextChange} TextChange */
/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */
/** @typedef {{ readonly item: HTMLLIElement, readonly about: HTMLElement, readonly tokens: HTMLElement,
 *   readonly name: string, count: number, ended: string }} ShownText */

const MOST_TEXTS = 12;
const MOST_TOKENS = 240;
/** Shorter runs have a line alone: numbers would stand between all tokens. */
const LEAST_NAMED = 4;

const list = find("texts", HTMLOListElement);
const about = find("texts-about", HTMLElement);
const legend = find("ranks", HTMLUListElement);

/** The oldest first. @type {Map<string, ShownText>} */
const shown = new Map();
let areTold = true;

/** @param {boolean} told whether others' texts are told */
export function tellTexts(told) {
  areTold = told;
}

/** @param {readonly TextChange[]} texts */
export function showTokens(texts) {
  for (const change of texts) {
    const text = shown.get(change.id) ?? begin(change);
    if (text === undefined) continue;
    text.count += change.skipped ?? 0;
    for (const token of change.tokens ?? []) addToken(text, change.id, token);
    while (text.tokens.childElementCount > MOST_TOKENS) text.tokens.firstElementChild?.remove();
    if (tokensInARow() >= LEAST_NAMED) nameHolder(text.tokens.firstElementChild);
    text.ended = change.ended ?? text.ended;
    const place = text.ended === "" ? "" : `, ended: ${text.ended}`;
    say(text.about, `${text.name}, ${text.count} tokens${place}`);
  }
  const going = [...shown.values()].filter(({ ended }) => ended === "").length;
  const hidden = areTold ? "" : " The server does not tell what others' tokens say.";
  say(about, shown.size === 0 ? "Nothing is generated." : `${going} of the ${shown.size} shown go on.${hidden}`);
}

/** Marks tokens with the ranks that hold them, where that was not known when they came. */
export function markTokens() {
  for (const [id, { tokens }] of shown) {
    for (const token of tokens.querySelectorAll(".token:not([data-held])")) {
      if (token instanceof HTMLElement) markHolder(token, id, Number(token.dataset.index));
    }
  }
}

/** Forgets all texts: some of their tokens may have been missed. */
export function forgetTexts() {
  shown.clear();
  list.replaceChildren();
  say(about, "Nothing is generated.");
}

/** @param {StepMessage["ranks"]} ranks */
export function showRanks(ranks) {
  const inARow = tokensInARow();
  const texts = ranks.map(({ rank, group, heads: [start, end] }) => {
    const others = group.filter((other) => other !== rank);
    const part = inARow === 0 ? "its part of the" : `its ${inARow} of every ${inARow * group.length}`;
    const held = others.length === 0 ? "all tokens" : `${part} tokens`;
    const line = `token ${rankClass(rank)} ${lineClass(group.indexOf(rank))}`;
    return { rank, line, text: `holds ${held}, keeps heads ${start} to ${end - 1}` };
  });
  const key = JSON.stringify(texts);
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  const items = texts.map(({ rank, line, text }) => make("li", "", rankMark(rank), " ", make("span", line, text)));
  legend.replaceChildren(...items);
}

/**
 * @param {TextChange} change
 * @returns {ShownText | undefined} undefined when there is no room
 */
function begin({ id, route }) {
  if (shown.size >= MOST_TEXTS) {
    const gone = [...shown].find(([, { ended }]) => ended !== "");
    if (gone === undefined) return undefined;
    gone[1].item.remove();
    shown.delete(gone[0]);
  }
  const aboutText = make("p", "muted");
  const tokens = make("p", "tokens");
  const item = make("li", "", aboutText, tokens);
  const name = `${shortName(id)}${route === undefined ? "" : ` (${route})`}`;
  const text = { item, about: aboutText, tokens, name, count: 0, ended: "" };
  shown.set(id, text);
  list.prepend(item);
  return text;
}

/**
 * @param {ShownText} text
 * @param {string} id
 * @param {string} said what the token says; empty when it is not told
 */
function addToken(text, id, said) {
  const token = make("span", "token new", said === "" ? "·" : said);
  token.dataset.index = String(text.count);
  text.tokens.append(token);
  markHolder(token, id, text.count++);
}

/**
 * @param {HTMLElement} token
 * @param {string} id
 * @param {number} index
 */
function markHolder(token, id, index) {
  const holders = holdersOf(id, index);
  const [first] = holders ?? [];
  if (holders === undefined || first === undefined) return;
  token.dataset.held = holders.length > 2 ? `${first}…` : holders.join(",");
  token.classList.add(rankClass(first), lineClass(placeOf(first)));
  const before = token.previousElementSibling;
  const isSame = before instanceof HTMLElement && before.dataset.held === token.dataset.held;
  if (!isSame && tokensInARow() >= LEAST_NAMED) nameHolder(token);
}

/**
 * Says in front of a token who holds it, once: done where another rank's run begins.
 * @param {Element | null} token
 */
function nameHolder(token) {
  if (!(token instanceof HTMLElement) || token.querySelector("small") !== null) return;
  const { held } = token.dataset;
  if (held === undefined) return;
  const mark = make("small", "", held);
  mark.ariaHidden = "true";
  token.prepend(mark);
}

/**
 * Names of requests are long, and their ends seldom matter: the number of the choice does.
 * @param {string} id
 */
function shortName(id) {
  const slash = id.lastIndexOf("/");
  return slash <= 16 ? id : `${id.slice(0, 12)}…${id.slice(slash)}`;
}
