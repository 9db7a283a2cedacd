/** Longest run of last tokens that is looked up. */
const LONGEST_NGRAM = 3;

/**
 * Drafts the tokens that may follow a text from the text itself (prompt lookup, n-gram speculation): finds the latest
 * earlier place where its last 3 tokens (else 2, else 1) occur, and proposes what followed there. Costs a scan of the
 * text.
 * @returns from 0 to `most` token ids
 */
export function draftTokens(ids: readonly number[], most: number): number[] {
  for (let length = Math.min(LONGEST_NGRAM, ids.length - 1); length >= 1 && most >= 1; length--) {
    const suffix = ids.length - length;
    for (let start = suffix - 1; start >= 0; start--) {
      let matched = 0;
      while (matched < length && ids[start + matched] === ids[suffix + matched]) matched++;
      if (matched === length) return ids.slice(start + length, start + length + most);
    }
  }
  return [];
}
