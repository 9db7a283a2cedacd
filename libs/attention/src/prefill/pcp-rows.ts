import { chunkStart } from "@lockstep/dist-groups";

/**
 * Which new tokens of a prefill step each rank of a PCP group of `size` ranks computes. A sequence's tokens are cut
 * into 2 * size chunks; rank r takes chunk r and the r-th from the end, so that causal attention costs every rank about
 * the same.
 *
 * @param tokens new tokens of each sequence of the step
 * @returns for each rank the indexes of its tokens within the step (sequences one after another), ascending
 * Source: the head-tail split of zigzag ring attention and of vLLM's prefill context parallelism.
 */
export function pcpRows(tokens: readonly number[], size: number): Int32Array[] {
  const rows = Array.from({ length: size }, (): number[] => []);
  let start = 0;
  for (const count of tokens) {
    for (const [rank, own] of rows.entries()) {
      const parts = size === 1 ? [[0, 1, 1]] : [rank, 2 * size - 1 - rank].map((part) => [part, part + 1, 2 * size]);
      for (const [from = 0, to = 0, of = 1] of parts) {
        for (let token = chunkStart(count, from, of); token < chunkStart(count, to, of); token++)
          own.push(start + token);
      }
    }
    start += count;
  }
  return rows.map((own) => Int32Array.from(own));
}
