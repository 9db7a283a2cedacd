// The token that the server may want: asked for when it does, kept in this tab.
import { find, say } from "./elements.js";

const KEY = "lockstep-token";

const form = find("access", HTMLFormElement);
const input = find("token", HTMLInputElement);
const problem = find("access-problem", HTMLElement);

/** @type {() => void} */
let onChange = () => undefined;

/** @returns {Record<string, string>} headers of requests to the server */
export function accessHeaders() {
  const token = sessionStorage.getItem(KEY);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** Asks for the token, as the server refused what it got. */
export function askForToken() {
  if (sessionStorage.getItem(KEY) !== null) say(problem, "The server refused this token.");
  if (!form.hidden) return;
  form.hidden = false;
  input.focus();
}

/** Takes the question back: the server was content. */
export function accessGranted() {
  form.hidden = true;
}

/**
 * Has `changed` called when there is another token.
 * @param {() => void} changed
 */
export function onToken(changed) {
  onChange = changed;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, input.value.trim());
  input.value = "";
  onChange();
});
