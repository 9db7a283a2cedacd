// How busy the engine is: requests, rates, KV blocks.
import { find, say } from "./elements.js";

/** @typedef {import("../live/live-messages.ts").StatusMessage} StatusMessage */

const WINDOW_MS = 3_000;

const running = find("running", HTMLElement);
const waiting = find("waiting", HTMLElement);
const tokenRate = find("token-rate", HTMLElement);
const stepRate = find("step-rate", HTMLElement);
const about = find("blocks-about", HTMLElement);
const bars = { used: find("blocks-used", HTMLElement), cached: find("blocks-cached", HTMLElement) };
const counts = {
  used: find("used", HTMLElement),
  cached: find("cached", HTMLElement),
  free: find("free", HTMLElement),
};

/** The last messages, for rates. @type {StatusMessage[]} */
let recent = [];

/** @param {StatusMessage} status */
export function showStatus(status) {
  say(running, status.running);
  say(waiting, status.waiting);
  showRates(status);
  const { total, used, cached } = status.blocks;
  say(counts.used, used);
  say(counts.cached, cached);
  say(counts.free, total - used - cached);
  bars.used.style.setProperty("--part", String(total === 0 ? 0 : used / total));
  bars.cached.style.setProperty("--part", String(total === 0 ? 0 : cached / total));
  const known = status.promptTokens === 0 ? 0 : Math.round((100 * status.cachedTokens) / status.promptTokens);
  const parts = [
    `${total} blocks of ${status.blockTokens} tokens`,
    `${known} % of the prompts' tokens were known`,
    `${status.preemptions} preempted`,
    `${status.restarts} restarts`,
  ];
  say(about, `${parts.join(", ")}.`);
}

/** Forgets what was: another stream begins. */
export function forgetStatus() {
  recent = [];
}

/** @param {StatusMessage} status */
function showRates(status) {
  recent = recent.filter(({ atMs, steps }) => status.atMs - atMs <= WINDOW_MS && steps <= status.steps);
  const [first] = recent;
  recent.push(status);
  const isIdle = status.running === 0 && status.waiting === 0;
  const seconds = first === undefined ? 0 : (status.atMs - first.atMs) / 1000;
  if (isIdle) {
    say(tokenRate, 0);
    say(stepRate, 0);
  } else if (first !== undefined && seconds > 0) {
    say(tokenRate, rounded((status.generatedTokens - first.generatedTokens) / seconds));
    say(stepRate, rounded((status.steps - first.steps) / seconds));
  }
}

/** @param {number} rate */
const rounded = (rate) => (rate < 10 ? rate.toFixed(1) : Math.round(rate));
