// Where the time of a step goes: the last explained steps, and the numbers of the latest.
import { draw, find, make, say } from "./elements.js";

/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */

const STEPS = 60;
const WIDTH = 5;
const HEIGHT = 90;
const PARTS = /** @type {const} */ ([
  ["gather", "gather"],
  ["attention", "attention"],
  ["combine", "combine"],
  ["other", "the rest"],
]);

const drawing = find("times-history", SVGSVGElement);
const about = find("times-about", HTMLElement);
const numbers = PARTS.map(([name, text]) => {
  const swatch = make("span", `swatch ${name}`);
  swatch.ariaHidden = "true";
  const number = make("b", "", "–");
  find("times", HTMLUListElement).append(make("li", "", swatch, `${text} `, number));
  return number;
});

/** Milliseconds of each part. @type {number[][]} */
let history = [];

/** @param {StepMessage} step */
export function showTimes({ step, kind, combine, times, texts, left, ranks }) {
  const { gatherMs, attentionMs, combineMs, stepMs } = times;
  const parts = [gatherMs, attentionMs, combineMs, Math.max(0, stepMs - gatherMs - attentionMs - combineMs)];
  history = [...history, parts].slice(-STEPS);
  for (const [index, number] of numbers.entries()) say(number, `${(parts[index] ?? 0).toFixed(2)} ms`);
  const most = wholeHeight(history.map(sumOf));
  const bytes = ranks.reduce((sum, { attentionBytes }) => sum + attentionBytes, 0);
  const count = texts.length + left;
  const what = `Step ${step}: ${kind} of ${count} ${count === 1 ? "text" : "texts"}, combine ${combine}`;
  const exchanged = `${(bytes / 1024).toFixed(1)} KiB exchanged for attention`;
  say(about, `${what}, ${stepMs.toFixed(1)} ms, ${exchanged}. The whole height is ${most.toFixed(1)} ms.`);
  const bars = history.flatMap((ofStep, index) => column(ofStep, (STEPS - history.length + index) * WIDTH, most));
  drawing.replaceChildren(...bars);
}

/** Forgets all steps. */
export function forgetTimes() {
  history = [];
}

/** @param {readonly number[]} parts */
const sumOf = (parts) => parts.reduce((sum, part) => sum + part, 0);

/**
 * Milliseconds of the whole height: of the longest step, unless that is so much longer than others that it would hide
 * them. It is cut off then.
 * @param {readonly number[]} steps
 */
function wholeHeight(steps) {
  const sorted = [...steps].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  return Math.max(1e-6, Math.min(sorted.at(-1) ?? 0, 3 * median));
}

/**
 * The parts of one step on top of one another, the first at the bottom.
 * @param {readonly number[]} parts
 * @param {number} x
 * @param {number} most milliseconds of the whole height
 */
function column(parts, x, most) {
  let y = HEIGHT;
  return parts.map((part, index) => {
    const height = (part / most) * HEIGHT;
    y -= height;
    const bar = draw("rect", { x, y, width: WIDTH - 1, height });
    bar.setAttribute("class", PARTS[index]?.[0] ?? "");
    return bar;
  });
}
