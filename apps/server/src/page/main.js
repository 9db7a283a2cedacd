// Wires the stream of events to the parts of the page.
import { onToken } from "./access.js";
import { find, say } from "./elements.js";
import { forgetFlight, showFlight } from "./flight-view.js";
import { LiveConnection } from "./live-connection.js";
import { showOwners } from "./owners-view.js";
import { reachByKeyboard } from "./scroll-frames.js";
import { followWithToken } from "./server-links.js";
import { onLayer, showShares } from "./shares-view.js";
import { showConnection, showEngineState, showStuck } from "./state-view.js";
import { forgetStatus, showStatus } from "./status-view.js";
import { chosenText, offerTexts, onChoice } from "./step-choice.js";
import { forgetTexts, markTokens, showRanks, showTokens, tellTexts } from "./texts-view.js";
import { forgetTimes, showTimes } from "./times-view.js";
import { forgetOwners, learnOwners } from "./token-owners.js";
import { setModel } from "./try-view.js";

/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */

const about = find("about", HTMLElement);
const pause = find("pause", HTMLButtonElement);

/** @type {StepMessage | undefined} */
let lastStep;

/** What is served, and how many ranks told of it last; none before the first status. */
const served = { model: "", maxContext: 0, ranks: 0 };

/** @param {number} ranks */
function showServed(ranks) {
  if (served.ranks === ranks) return;
  // Who holds which tokens, and how long each takes, was told of other ranks.
  if (served.ranks > 0) {
    forgetOwners();
    forgetTimes();
  }
  served.ranks = ranks;
  const { model, maxContext } = served;
  say(about, `${model}, ${ranks} ${ranks === 1 ? "rank" : "ranks"}, up to ${maxContext} tokens of context`);
}

function showText() {
  if (lastStep === undefined) return;
  const text = chosenText(lastStep);
  showOwners(lastStep, text);
  showShares(lastStep, text);
}

const connection = new LiveConnection(
  {
    hello: ({ model, maxContext, texts }) => {
      Object.assign(served, { model, maxContext, ranks: 0 });
      document.title = `${model} · Lockstep`;
      setModel(model);
      tellTexts(texts === "all");
      forgetTexts();
      forgetOwners();
      forgetStatus();
      forgetTimes();
      forgetFlight();
    },
    status: (status) => {
      showServed(status.ranks);
      showEngineState(status.state);
      showStatus(status);
    },
    tokens: ({ texts }) => showTokens(texts),
    step: (step) => {
      lastStep = step;
      learnOwners(step);
      markTokens();
      showRanks(step.ranks);
      showTimes(step);
      offerTexts(step);
      showText();
    },
    flight: (flight) => {
      showStuck(flight.stuckMs > 0);
      showFlight(flight);
    },
    dropped: () => {
      forgetTexts();
      forgetFlight();
      showStuck(false);
    },
  },
  showConnection,
);

for (const frame of document.querySelectorAll(".scroll")) {
  if (frame instanceof HTMLElement) reachByKeyboard(frame);
}

let isPaused = false;

/** Opens the stream while somebody looks, and closes it when nobody does. */
function follow() {
  if (isPaused || document.hidden) connection.stop();
  else connection.start();
}

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.ariaPressed = String(isPaused);
  follow();
});
document.addEventListener("visibilitychange", follow);
for (const link of document.querySelectorAll("a.with-token")) {
  if (link instanceof HTMLAnchorElement) followWithToken(link);
}
onToken(follow);
onChoice(showText);
onLayer(showText);
follow();
