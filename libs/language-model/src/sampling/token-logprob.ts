/** A token and its log-probability (natural logarithm), before temperature and cuts. */
export interface TokenLogprob {
  /** Id of the token. */
  readonly id: number;
  /** Natural logarithm of its probability. */
  readonly logprob: number;
}
