// How the times of a part of a model, and of short texts, give those of the whole at any context. Milliseconds.

/** What a way of spreading a model costs on this machine. */
export interface WorldTimes {
  /** Milliseconds of a decode step, in which every text gets a token, at the context of the choice. */
  readonly stepMs: number;
  /**
   * Milliseconds of a token in the middle of a prompt; undefined at contexts below 512 tokens, where it is not timed.
   */
  readonly promptTokenMs: number | undefined;
}

/** Milliseconds of steps of the whole model. */
export interface TrialTimes {
  /** Decode steps, at each length of the texts. */
  readonly steps: readonly number[][];
  /** Steps of a prompt's tokens. */
  readonly prompts: number[];
}

/** A step of a part of a model: what was timed, and how much of the model it is. */
export interface PartTimes {
  /** The whole step. */
  readonly step: number;
  /** Its layers but one: from the attention of the first to that of the last. */
  readonly layers: number;
  /** The output projection alone. */
  readonly output: number;
}

/** How much of something there is in the part and in the whole. */
interface Share {
  readonly part: number;
  readonly whole: number;
}

/** What a step of the whole model takes: each layer as one of the part's does, the output as its rows are many. */
export function wholeStep(timed: PartTimes, layers: Share, vocabulary: Share): number {
  const layer = timed.layers / Math.max(1, layers.part - 1);
  return timed.step + (layers.whole - layers.part) * layer + (vocabulary.whole / vocabulary.part - 1) * timed.output;
}

/** What was timed, and what it is to tell of. */
export interface TimedTexts {
  /** Tokens of the texts that were timed: one length, or two to go on from. */
  readonly lengths: readonly number[];
  /** Texts of a timed step, and of a step of the generator. */
  readonly timedTexts: number;
  readonly texts: number;
  /** Tokens of a timed step of a prompt; 0 when there was none, since the texts are short. */
  readonly promptTokens: number;
  /** Tokens of a text, the next one among them. */
  readonly context: number;
}

/**
 * What steps of all texts take at the context, of those of some at the lengths that were timed: a token of context
 * takes as long as one between the two lengths, never less than nothing.
 *
 * Engines compile what is timed while it runs, on the same cores, and other programs run as well: that only ever adds.
 * A short text is over before the engines have done compiling, and is told by the lower quartile of its times. Most
 * steps of a long one come after it, and are told by the least.
 */
export function worldTimes(times: readonly TrialTimes[], timed: TimedTexts): WorldTimes {
  const { lengths, timedTexts, texts, promptTokens, context } = timed;
  const usual = promptTokens === 0 ? lowerQuartile : least;
  const [short = 0, long = short] = lengths.map((_, at) => usual(times.flatMap(({ steps }) => steps[at] ?? [])));
  const [shortLength = 0, longLength = shortLength] = lengths;
  const perToken = longLength > shortLength ? Math.max(0, long - short) / (longLength - shortLength) : 0;
  const step = long + perToken * (context - 1 - longLength);
  const prompt = usual(times.flatMap(({ prompts }) => prompts));
  return {
    stepMs: (step * texts) / timedTexts,
    promptTokenMs: promptTokens === 0 ? undefined : prompt / promptTokens,
  };
}

/** The time that a quarter of the times do not exceed; 0 of none. */
export function lowerQuartile(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 4)] ?? 0;
}

function least(times: readonly number[]): number {
  return times.length === 0 ? 0 : Math.min(...times);
}
