const [QUOTE, BACKSLASH, COLON] = [34, 92, 58];
const [OPEN_LIST, OPEN_OBJECT, CLOSE_LIST, CLOSE_OBJECT] = [91, 123, 93, 125];

/** How a JSON text is made. */
export interface JsonShape {
  /** Objects and lists within one another, at most. */
  readonly depth: number;
  /** Fields of all objects together. */
  readonly fields: number;
}

/** Tells how a text is made, before it is parsed: what is not JSON is told as it looks. Reads each character once. */
export function jsonShape(text: string): JsonShape {
  let [depth, deepest, fields] = [0, 0, 0];
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (isInString) {
      if (code === BACKSLASH) at++;
      else if (code === QUOTE) isInString = false;
    } else if (code === QUOTE) isInString = true;
    else if (code === COLON) fields++;
    else if (code === OPEN_LIST || code === OPEN_OBJECT) deepest = Math.max(deepest, ++depth);
    else if (code === CLOSE_LIST || code === CLOSE_OBJECT) depth--;
  }
  return { depth: deepest, fields };
}
