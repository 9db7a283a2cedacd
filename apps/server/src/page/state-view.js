// The state of connection and engine, in one line that is read aloud when it changes.
import { find, say } from "./elements.js";

/** @typedef {import("./live-connection.js").Connection} Connection */
/** @typedef {import("../live/live-messages.ts").StatusMessage["state"]} EngineState */

const element = find("state", HTMLElement);

/** @type {Readonly<Record<EngineState, string>>} */
const ENGINE = {
  ready: "Ready",
  restarting: "Restarting: ranks failed, and are opened again",
  failed: "Failed: the ranks could not be opened again",
  closed: "Closed",
};

/** @type {Readonly<Record<Exclude<Connection, "open">, string>>} */
const CONNECTION = {
  connecting: "Connecting",
  away: "No connection: trying again",
  token: "The server wants its token",
  refused: "Refused",
  paused: "Paused",
};

/** @type {Connection} */
let connection = "connecting";
let why = "";
/** @type {EngineState | undefined} */
let engine;
let isStuck = false;

function show() {
  const isOpen = connection === "open" && engine !== undefined;
  const state = isOpen ? (isStuck && engine === "ready" ? "stuck" : engine) : connection;
  element.dataset.state = state;
  if (state === "stuck") say(element, "Stuck: requests are computed, but no step ends");
  else if (isOpen && engine !== undefined) say(element, ENGINE[engine]);
  else if (connection === "open") say(element, CONNECTION.connecting);
  else say(element, why === "" ? CONNECTION[connection] : why);
}

/**
 * @param {Connection} now
 * @param {string} reason
 */
export function showConnection(now, reason) {
  connection = now;
  why = reason;
  if (now !== "open") isStuck = false;
  show();
}

/** @param {EngineState} now */
export function showEngineState(now) {
  engine = now;
  show();
}

/** @param {boolean} now */
export function showStuck(now) {
  isStuck = now;
  show();
}
