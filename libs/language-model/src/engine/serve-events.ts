// What ranks tell the host while they serve, as records of 32-bit words.
import type { TokenLogprob } from "../sampling/token-logprob.ts";
import type { FinishReason, GeneratedToken } from "./request-options.ts";

/** Something that happened while ranks served. */
export type ServeEvent =
  | { readonly kind: "begun"; readonly id: number /** Tokens that were known. */; readonly cached: number }
  | {
      readonly kind: "token";
      readonly id: number;
      readonly token: GeneratedToken;
      readonly finish: FinishReason | undefined;
    }
  | ({ readonly kind: "step" } & StepCounts);

/** How things stand after a step. */
export interface StepCounts {
  readonly running: number;
  readonly waiting: number;
  /** Blocks that nobody holds, those of them whose contents are known included; and these. */
  readonly freeBlocks: number;
  readonly knownBlocks: number;
  /** Since the ranks were opened. */
  readonly preemptions: number;
  /** Tokens whose keys and values the step computed. */
  readonly computed: number;
}

const [BEGUN, TOKEN, STEP] = [1, 2, 3];
const FINISHES: readonly (FinishReason | undefined)[] = [undefined, "stop", "length"];
/** Words of a record of a token without alternatives, and of each alternative. */
const [TOKEN_WORDS, TOP_WORDS] = [7, 2];
const STEP_WORDS = 7;
const BEGUN_WORDS = 3;

/** Most words of one step's records, of so many requests with so many alternatives each. */
export function mostEventWords(requests: number, alternatives: number): number {
  return requests * (BEGUN_WORDS + TOKEN_WORDS + TOP_WORDS * alternatives) + STEP_WORDS;
}

/** Appends an event to a step's words. */
export function writeEvent(words: number[], event: ServeEvent): void {
  if (event.kind === "begun") {
    words.push(BEGUN, event.id, event.cached);
  } else if (event.kind === "step") {
    const { running, waiting, freeBlocks, knownBlocks, preemptions, computed } = event;
    words.push(STEP, running, waiting, freeBlocks, knownBlocks, preemptions, computed);
  } else {
    const { id, logprob, top = [] } = event.token;
    const hasLogprob = logprob === undefined ? 0 : 1;
    words.push(TOKEN, event.id, FINISHES.indexOf(event.finish), id, hasLogprob, bitsOf(logprob ?? 0), top.length);
    for (const alternative of top) words.push(alternative.id, bitsOf(alternative.logprob));
  }
}

/** The events of whole records. */
export function* readEvents(words: Int32Array): Generator<ServeEvent, void> {
  const word = (at: number): number => words[at] ?? -1;
  for (let at = 0; at < words.length; ) {
    const kind = word(at);
    if (kind === BEGUN) {
      yield { kind: "begun", id: word(at + 1), cached: word(at + 2) };
      at += BEGUN_WORDS;
    } else if (kind === STEP) {
      const [running, waiting, freeBlocks] = [word(at + 1), word(at + 2), word(at + 3)];
      const [knownBlocks, preemptions, computed] = [word(at + 4), word(at + 5), word(at + 6)];
      yield { kind: "step", running, waiting, freeBlocks, knownBlocks, preemptions, computed };
      at += STEP_WORDS;
    } else if (kind === TOKEN) {
      const count = word(at + 6);
      const top = Array.from({ length: count }, (_, index): TokenLogprob => {
        const from = at + TOKEN_WORDS + TOP_WORDS * index;
        return { id: word(from), logprob: floatOf(word(from + 1)) };
      });
      const id = word(at + 3);
      const token: GeneratedToken = word(at + 4) === 0 ? { id } : { id, logprob: floatOf(word(at + 5)), top };
      yield { kind: "token", id: word(at + 1), token, finish: FINISHES[word(at + 2)] };
      at += TOKEN_WORDS + TOP_WORDS * count;
    } else {
      throw new Error(`a record of kind ${kind} at word ${at}`);
    }
  }
}

const floats = new Float32Array(1);
const bits = new Int32Array(floats.buffer);

function bitsOf(value: number): number {
  floats[0] = value;
  return bits[0] ?? 0;
}

function floatOf(word: number): number {
  bits[0] = word;
  return floats[0] ?? 0;
}
