// Texts of node-llama-cpp, many at once: sequences of one context, whose tokens it computes in batches.
import type { LlamaModel, LlamaSequence } from "../peer/llama-cpp.ts";
import type { TextPart } from "./clients.ts";
import type { TextRequest } from "./requests.ts";

/** What stands for bytes that are no whole character yet. */
const UNFINISHED = "\ufffd";

/** Continues texts greedily, each in a sequence of its own; who finds none waits for one, first come first served. */
export class LlamaCppTexts {
  readonly #model: Pick<LlamaModel, "detokenize">;
  readonly #free: LlamaSequence[];
  readonly #waiting: ((sequence: LlamaSequence) => void)[] = [];

  constructor(model: Pick<LlamaModel, "detokenize">, sequences: readonly LlamaSequence[]) {
    this.#model = model;
    this.#free = [...sequences];
  }

  async *generate({ prompt, maxTokens }: TextRequest): AsyncGenerator<TextPart, void> {
    const sequence = this.#free.pop() ?? (await new Promise<LlamaSequence>((take) => this.#waiting.push(take)));
    try {
      yield* this.#continued(sequence, prompt, maxTokens);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(sequence);
      else next(sequence);
    }
  }

  async *#continued(
    sequence: LlamaSequence,
    prompt: readonly number[],
    maxTokens: number,
  ): AsyncGenerator<TextPart, void> {
    await sequence.clearHistory();
    const last = [...prompt];
    let pending: number[] = [];
    let made = 0;
    for await (const token of sequence.evaluate([...prompt], { temperature: 0, yieldEogToken: true })) {
      const isLast = ++made === maxTokens;
      pending.push(token);
      const text = this.#model.detokenize(pending, true, last.slice(-4));
      const isWhole = isLast || !text.endsWith(UNFINISHED);
      yield { text: isWhole ? text : "", tokens: [token] };
      if (isLast) return;
      if (!isWhole) continue;
      last.push(...pending);
      pending = [];
    }
    throw new Error(`llama.cpp made ${made} tokens instead of ${maxTokens}`);
  }
}
