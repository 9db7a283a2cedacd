// Which text of the explained step is looked at.
import { find, make } from "./elements.js";

/** @typedef {import("../live/live-messages.ts").StepMessage} StepMessage */
/** @typedef {import("../live/live-messages.ts").StepText} StepText */

const select = find("text", HTMLSelectElement);

/** @param {StepText} text */
const nameOf = ({ id, text }) => id ?? `request ${text}`;

/**
 * The chosen text of a step: the first, unless another was chosen and is there. A chosen one that is gone is no text.
 * @param {StepMessage} step
 * @returns {StepText | undefined}
 */
export function chosenText({ texts }) {
  if (select.value === "") return texts[0];
  return texts.find((text) => nameOf(text) === select.value);
}

/**
 * Offers the texts of a step, and the one that was chosen, even if it is gone. Not while the choice has the focus: it
 * would change under the hand.
 * @param {StepMessage} step
 */
export function offerTexts({ texts }) {
  if (document.activeElement === select) return;
  const names = texts.map(nameOf);
  if (select.value !== "" && !names.includes(select.value)) names.push(select.value);
  const there = [...select.options].slice(1).map(({ value }) => value);
  if (there.join() === names.join()) return;
  const { value } = select;
  const options = names.map((name) => {
    const option = make("option", "", name);
    option.value = name;
    return option;
  });
  select.replaceChildren(...[...select.options].slice(0, 1), ...options);
  select.value = value;
}

/** @param {() => void} listener called when another text is chosen */
export function onChoice(listener) {
  select.addEventListener("change", listener);
}
