// The passes of attention: one thread walks runs of query tokens of one sequence; a run's (token, head) pairs, up to
// `maxRows` of them, form the rows of a pass, those that read one KV head next to one another.

import {
  ENDS, GROUP_OFFSET, GROUP_SIZE, MAX_ROWS, MAX_TILE_HEADS, PASS, QUERY_HEADS, SEQUENCES, STARTS, TOKENS,
} from "./attention-table.as";

/** To be called before the first pass. */
export function beginPasses(p: usize): void {
  store<i32>(p, 0, PASS);
  store<i32>(p, 0, PASS + 4);
  store<i32>(p, 0, PASS + 12);
}

/** Writes what the next pass is of. False after the last. There are query heads. */
export function nextPass(p: usize): bool {
  const queryHeads = load<i32>(p, QUERY_HEADS);
  if (load<i32>(p, PASS + 4) == 0 || load<i32>(p, PASS + 12) >= queryHeads) {
    if (!nextTokens(p)) return false;
    store<i32>(p, 0, PASS + 12);
  }
  const size = load<i32>(p, GROUP_SIZE);
  const offset = load<i32>(p, GROUP_OFFSET);
  const head = load<i32>(p, PASS + 12);
  const headsPerPass = max(1, min(load<i32>(p, MAX_ROWS) / load<i32>(p, PASS + 4), size * MAX_TILE_HEADS));
  let stop = min(queryHeads, head + headsPerPass);
  // Whole groups, if one fits.
  const boundary = ((stop + offset) / size) * size - offset;
  if (stop < queryHeads && boundary > head) stop = boundary;
  store<i32>(p, head, PASS + 8);
  store<i32>(p, stop, PASS + 12);
  return true;
}

/** Tokens join while what they see touches: every key in between is then seen by one of them. */
function nextTokens(p: usize): bool {
  const tokens = load<i32>(p, TOKENS);
  const token = load<i32>(p, PASS) + load<i32>(p, PASS + 4);
  if (token >= tokens) return false;
  const tokensPerPass = max(1, load<i32>(p, MAX_ROWS) / min(load<i32>(p, GROUP_SIZE), load<i32>(p, QUERY_HEADS)));
  const sequence = load<i32>(load<u32>(p, SEQUENCES) + token * 4);
  let start = load<i32>(load<u32>(p, STARTS) + token * 4);
  let end = load<i32>(load<u32>(p, ENDS) + token * 4);
  let last = token + 1;
  while (last < tokens && last - token < tokensPerPass && start < end) {
    const nextStart = load<i32>(load<u32>(p, STARTS) + last * 4);
    const nextEnd = load<i32>(load<u32>(p, ENDS) + last * 4);
    if (load<i32>(load<u32>(p, SEQUENCES) + last * 4) != sequence) break;
    if (nextStart >= nextEnd || nextStart > end || nextEnd < start) break;
    start = min(start, nextStart);
    end = max(end, nextEnd);
    last++;
  }
  store<i32>(p, token, PASS);
  store<i32>(p, last - token, PASS + 4);
  store<i32>(p, sequence, PASS + 16);
  store<i32>(p, start, PASS + 20);
  store<i32>(p, end, PASS + 24);
  return true;
}
