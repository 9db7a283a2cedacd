import { draftTokens } from "./prompt-lookup.ts";

/** A text to be continued. */
export interface BatchText {
  readonly prompt: readonly number[];
  /** Most tokens to generate. */
  readonly maxTokens: number;
}

/** How texts are continued together. Plain data. */
export interface BatchOptions {
  /** Tokens that end a text; they are not part of it. */
  readonly endTokens: readonly number[];
  /** Most tokens of one step. */
  readonly maxStepTokens: number;
  /**
   * Prompts are computed one at a time, so many tokens a step, in steps of their own. Undefined: beside what decodes.
   */
  readonly prefillChunk: number | undefined;
  /** Most tokens drafted for a text at a time; 0 for no speculation. */
  readonly maxDraft: number;
}

/** What one text brings to a step. */
export interface BatchItem {
  readonly text: number;
  readonly ids: readonly number[];
  /** How many of `ids`, the last ones, are drafted. */
  readonly drafted: number;
  /** Of how many of the last ids the next token is asked for. */
  readonly logits: number;
}

export interface BatchStep {
  /** A part of one prompt, to be computed as a prefill. */
  readonly isPrefill: boolean;
  readonly items: readonly BatchItem[];
}

/** What a step's outcome means for one text. */
export interface BatchProgress {
  readonly text: number;
  /** New tokens of the text. */
  readonly tokens: readonly number[];
  /** Tokens of the text that stay stored: fewer than there are when drafted ones were rejected. */
  readonly stored: number;
}

/** How far a batch is: what others need to go on with it. Plain data. */
export interface BatchSnapshot {
  readonly texts: readonly TextState[];
  readonly options: BatchOptions;
  readonly drafted: number;
  readonly accepted: number;
}

/** How far one text is. */
export interface TextState {
  readonly ids: number[];
  readonly promptLength: number;
  readonly maxTokens: number;
  stored: number;
  isDone: boolean;
}

/**
 * Decides what each step computes when several texts are continued at once (continuous batching): every text that
 * decodes brings its last token, with a draft if asked for, and prompts that are not computed yet fill what is left of
 * the step. Every rank runs its own and all decide alike.
 */
export class Batch {
  #texts: readonly TextState[];
  readonly #options: BatchOptions;
  /** Tokens drafted, and those of them that were accepted, so far. */
  drafted = 0;
  accepted = 0;

  constructor(texts: readonly BatchText[], options: BatchOptions) {
    this.#options = options;
    this.#texts = texts.map(({ prompt, maxTokens }) => ({
      ids: [...prompt],
      promptLength: prompt.length,
      maxTokens,
      stored: 0,
      isDone: false,
    }));
  }

  /** Goes on with a batch where it is. */
  static resume({ texts, options, drafted, accepted }: BatchSnapshot): Batch {
    const batch = new Batch([], options);
    batch.#texts = texts.map((text) => ({ ...text, ids: [...text.ids] }));
    batch.drafted = drafted;
    batch.accepted = accepted;
    return batch;
  }

  /** How far it is. */
  get snapshot(): BatchSnapshot {
    const { drafted, accepted } = this;
    return { texts: this.#texts, options: this.#options, drafted, accepted };
  }

  get isDone(): boolean {
    return this.#texts.every((text) => text.isDone);
  }

  /** Prompt tokens computed so far, over all texts. */
  get promptTokensDone(): number {
    return this.#texts.reduce((sum, { stored, promptLength }) => sum + Math.min(stored, promptLength), 0);
  }

  /** The next step; every text that is not done goes on in it, as far as maxStepTokens allows. */
  next(): BatchStep {
    const { prefillChunk, maxStepTokens, maxDraft } = this.#options;
    const live = [...this.#texts.entries()].filter(([, text]) => !text.isDone);
    const prompts = live.filter(([, text]) => text.stored < text.promptLength);
    const [first] = prompts;
    if (prefillChunk !== undefined && first !== undefined) {
      return { isPrefill: true, items: [promptPart(first, Math.min(prefillChunk, maxStepTokens))] };
    }
    const decoding = live.filter(([, text]) => text.stored >= text.promptLength);
    let room = maxStepTokens - decoding.length;
    const items = decoding.map(([index, text]): BatchItem => {
      const left = text.maxTokens - (text.ids.length - text.promptLength) - 1;
      const draft = draftTokens(text.ids, Math.min(maxDraft, left, room));
      room -= draft.length;
      const ids = [...text.ids.slice(text.stored), ...draft];
      return { text: index, ids, drafted: draft.length, logits: ids.length };
    });
    for (const entry of prompts) {
      if (room === 0) break;
      const item = promptPart(entry, room);
      room -= item.ids.length;
      items.push(item);
    }
    return { isPrefill: false, items };
  }

  /**
   * Takes in what a step found. A drafted token is accepted when it is the one that the model chooses there itself.
   * @param choices the token that follows each of the ids that were asked for, item after item
   */
  accept({ items }: BatchStep, choices: readonly number[]): BatchProgress[] {
    let at = 0;
    return items.map((item) => {
      const own = choices.slice(at, at + item.logits);
      at += item.logits;
      return this.#acceptItem(item, own);
    });
  }

  #acceptItem(item: BatchItem, choices: readonly number[]): BatchProgress {
    const text = this.#texts[item.text];
    if (text === undefined) throw new Error(`no text ${item.text} in this batch`);
    const draft = item.ids.slice(item.ids.length - item.drafted);
    let accepted = 0;
    while (accepted < draft.length && draft[accepted] === choices[accepted]) accepted++;
    this.drafted += item.drafted;
    this.accepted += accepted;
    text.stored += item.ids.length - item.drafted + accepted;
    const tokens: number[] = [];
    for (const token of choices.slice(0, accepted + 1)) {
      text.isDone = this.#options.endTokens.includes(token);
      if (text.isDone) break;
      text.ids.push(token);
      tokens.push(token);
    }
    // A drafted token that ends the text was stored with the others, and is no part of it.
    text.stored = Math.min(text.stored, text.ids.length);
    text.isDone ||= text.ids.length - text.promptLength >= text.maxTokens;
    return { text: item.text, tokens, stored: text.stored };
  }
}

/** The next part of a text's prompt; the token that follows is asked for with the last part. */
function promptPart([index, text]: [number, TextState], most: number): BatchItem {
  const ids = text.ids.slice(text.stored, Math.min(text.promptLength, text.stored + most));
  const isLast = text.stored + ids.length === text.promptLength;
  return { text: index, ids, drafted: 0, logits: isLast ? 1 : 0 };
}
