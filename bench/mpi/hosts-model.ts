// A model of a decode step over N hosts with a rank each: what attention costs per token of context, what a round and
// a byte cost over the network, and the bytes of a step by docs: query gather, then an all-to-all of partial outputs
// with their LSEs.

/** What a message costs. */
export interface Network {
  readonly name: string;
  /** Seconds from the sending of a header until it is here. */
  readonly latency: number;
  /** Bytes a second of large messages. */
  readonly bandwidth: number;
  /** Seconds that a rank computes for each peer in a round. */
  readonly perPeer: number;
}

/** What a rank computes. */
export interface Compute {
  /** Seconds of attention over one token of the context, for all query heads of a sequence. */
  readonly perToken: number;
  /** Seconds of a step beside that, whatever its size. */
  readonly fixed: number;
}

/** One layer, and the steps over it. */
export interface ModelledStep {
  readonly queryHeads: number;
  readonly headDim: number;
  readonly batch: number;
  /** Tokens of each sequence. */
  readonly context: number;
}

/** Largest message that is staged, in bytes, and bytes of an f32. */
const [STAGED, F32] = [64 * 1024, 4];
/** A large message is announced, moved, and acknowledged. */
const [STAGED_ROUNDS, DIRECT_ROUNDS] = [1, 3];

/** Bytes that a rank receives in a step, and rounds that it takes. */
export function trafficOf(
  { queryHeads, headDim, batch }: ModelledStep,
  ranks: number,
): { bytes: number; rounds: number } {
  if (ranks === 1) return { bytes: 0, rounds: 0 };
  const query = (batch * queryHeads * headDim * F32) / ranks;
  const partial = (batch * queryHeads * (headDim + 1) * F32 * (ranks - 1)) / ranks;
  const isStaged = partial <= STAGED;
  return {
    // What is staged goes to every peer as a whole.
    bytes: (ranks - 1) * query + (isStaged ? (ranks - 1) * partial : partial),
    rounds: (query <= STAGED ? STAGED_ROUNDS : DIRECT_ROUNDS) + (isStaged ? STAGED_ROUNDS : DIRECT_ROUNDS),
  };
}

/**
 * Seconds of a step of one layer. `cores`: of the machine on which all ranks run, when they share one; what more ranks
 * than cores compute takes turns.
 */
export function stepSeconds(
  step: ModelledStep,
  ranks: number,
  compute: Compute,
  network: Network,
  cores = Number.POSITIVE_INFINITY,
): number {
  const turns = Math.max(1, ranks / cores);
  const { bytes, rounds } = trafficOf(step, ranks);
  const attention = (compute.perToken * step.batch * step.context) / ranks;
  const inRounds = rounds * (network.latency + turns * network.perPeer * (ranks - 1));
  return turns * (compute.fixed + attention) + inRounds + (turns * bytes) / network.bandwidth;
}
