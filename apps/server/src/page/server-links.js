// Links to what the server tells in other forms: fetched with the token that the page was given, then shown.
import { accessHeaders, askForToken } from "./access.js";
import { find, say } from "./elements.js";
import { problemOf } from "./live-connection.js";

const status = find("links-status", HTMLElement);

/**
 * Has a link show what the server answers to the page. A browser would follow it without the token.
 * @param {HTMLAnchorElement} link
 */
export function followWithToken(link) {
  link.addEventListener("click", (event) => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    void show(link.href);
  });
}

/** @param {string} address */
async function show(address) {
  say(status, "");
  try {
    const response = await fetch(address, { headers: accessHeaders(), cache: "no-store" });
    if (response.status === 401) {
      askForToken();
    } else if (response.ok) {
      const type = (response.headers.get("content-type") ?? "text/plain").split(";")[0];
      const shown = new Blob([await response.text()], { type: `${type};charset=utf-8` });
      location.assign(URL.createObjectURL(shown));
    } else {
      say(status, await problemOf(response));
    }
  } catch {
    say(status, "The server does not answer.");
  }
}
