// A text box to try: streams from /v1/completions, and stops when told.
import { accessHeaders, askForToken } from "./access.js";
import { find, make, say } from "./elements.js";
import { readEvents } from "./event-stream.js";
import { problemOf } from "./live-connection.js";

const form = find("try", HTMLFormElement);
const prompt = find("prompt", HTMLTextAreaElement);
const maxTokens = find("max-tokens", HTMLInputElement);
const temperature = find("temperature", HTMLInputElement);
const go = find("go", HTMLButtonElement);
const stop = find("stop", HTMLButtonElement);
const status = find("try-status", HTMLElement);
const answer = find("answer", HTMLElement);
const text = find("answer-text", HTMLElement);

let model = "";
/** @type {AbortController | undefined} */
let under;

/** @param {string} name what requests ask for */
export function setModel(name) {
  model = name;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (under === undefined) void generate();
});

stop.addEventListener("click", () => under?.abort());

prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

async function generate() {
  under = new AbortController();
  go.disabled = true;
  stop.disabled = false;
  answer.hidden = false;
  text.replaceChildren(make("span", "muted", prompt.value));
  say(status, "Generating");
  try {
    say(status, await stream(under.signal));
  } catch (error) {
    if (under.signal.aborted) say(status, "Stopped");
    else say(status, `Failed: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    under = undefined;
    go.disabled = false;
    // The focus does not get lost with the button that had it.
    if (document.activeElement === stop) go.focus();
    stop.disabled = true;
  }
}

/**
 * Shows more of the answer. Who looks at its end goes on to do so.
 * @param {string} more
 */
function showMore(more) {
  const isAtEnd = answer.scrollTop + answer.clientHeight >= answer.scrollHeight - 8;
  text.append(more);
  if (isAtEnd) answer.scrollTop = answer.scrollHeight;
}

/**
 * Asks, and shows the answer as it comes.
 * @param {AbortSignal} signal
 * @returns {Promise<string>} how it ended
 */
async function stream(signal) {
  const response = await fetch("/v1/completions", {
    method: "POST",
    headers: { ...accessHeaders(), "content-type": "application/json" },
    body: JSON.stringify({
      model,
      prompt: prompt.value,
      max_tokens: Number(maxTokens.value),
      temperature: Number(temperature.value),
      stream: true,
      stream_options: { include_usage: true },
    }),
    signal,
  });
  if (response.status === 401) askForToken();
  if (!response.ok || response.body === null) throw new Error(await problemOf(response));
  let reason = "";
  let usage = "";
  for await (const { data } of readEvents(response.body)) {
    if (data === "[DONE]") return `Done${reason}${usage}`;
    const part = JSON.parse(data);
    if (part.error !== undefined) throw new Error(String(part.error.message));
    const [choice] = part.choices ?? [];
    if (typeof choice?.text === "string") showMore(choice.text);
    if (typeof choice?.finish_reason === "string") reason = ` (${choice.finish_reason})`;
    if (part.usage) usage = `: ${part.usage.prompt_tokens} tokens asked, ${part.usage.completion_tokens} generated`;
  }
  throw new Error("the answer was cut off");
}
