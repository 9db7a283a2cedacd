// What it costs to store keys and values in fewer bits: a model's log-probabilities, token by token, against KV in f32.
import {
  Generator,
  type GeneratorOptions,
  type KvDtype,
  type KvScaleSource,
  type Model,
} from "@lockstep/language-model";
import type { Expectation } from "./expectations.ts";

/** A way to store keys and values. */
export interface KvKind {
  readonly name: string;
  readonly kvDtype: KvDtype;
  readonly kvScales?: KvScaleSource;
}

export const KV_KINDS: readonly KvKind[] = [
  { name: "f16", kvDtype: "f16" },
  { name: "bf16", kvDtype: "bf16" },
  { name: "int8 static", kvDtype: "i8", kvScales: "static" },
  { name: "int8 per token", kvDtype: "i8", kvScales: "per-token" },
  { name: "fp8 static", kvDtype: "f8e4m3", kvScales: "static" },
  { name: "fp8 per token", kvDtype: "f8e4m3", kvScales: "per-token" },
];

/** Where a text first gets another token than with KV in f32. */
export interface FirstChange {
  /** Log-probability by which KV in f32 prefers its best token to its second best. */
  readonly gap: number;
  /** By how much the difference of the log-probabilities of the two tokens is wrong. */
  readonly error: number;
}

/** A text's continuation with one kind of KV. */
export interface TextAccuracy {
  /** Tokens before the first that differs, of so many, when the text is continued greedily. */
  readonly kept: number;
  readonly tokens: number;
  /** Undefined when all are kept. */
  readonly change: FirstChange | undefined;
}

/** A kind of KV over some texts, all following the tokens that KV in f32 chooses. */
export interface KvAccuracy {
  readonly kind: KvKind;
  /** Mean over all steps of |log p - log p with KV in f32| of the token that KV in f32 chooses, in nats. */
  readonly meanError: number;
  /**
   * Mean over all steps of the Kullback-Leibler divergence of the next token's distribution from that of KV in f32, in
   * nats.
   */
  readonly divergence: number;
  readonly texts: readonly TextAccuracy[];
}

type Spread = Omit<GeneratorOptions, "capacity" | "kvDtype" | "kvScales" | "calibration" | "texts">;

/**
 * Measures kinds of KV over the prompts of `entries`, each continued by at most `most` of its tokens. Static scales
 * come from the prompts. Yields each kind's as soon as it is known.
 */
export async function* measureKv(
  model: Model,
  spread: Spread,
  entries: readonly Expectation[],
  most: number,
  kinds: readonly KvKind[] = KV_KINDS,
): AsyncGenerator<KvAccuracy, void> {
  const texts = entries.map(({ promptIds, greedyIds }) => ({ promptIds, tokens: Math.min(most, greedyIds.length) }));
  const capacity = Math.max(...texts.map(({ promptIds, tokens }) => promptIds.length + tokens));
  const sizes = { ...spread, capacity };
  const exact: { ids: number[]; steps: Float64Array[] }[] = [];
  {
    await using generator = await Generator.open(model, { ...sizes, kvDtype: "f32" });
    for (const { promptIds, tokens } of texts) {
      const ids = await continued(generator, promptIds, tokens);
      exact.push({ ids, steps: await followed(generator, promptIds, ids) });
    }
  }
  const calibration = texts.flatMap(({ promptIds }) => promptIds);
  for (const kind of kinds) {
    const { kvDtype, kvScales } = kind;
    const cache = { kvDtype, ...(kvScales === undefined ? {} : { kvScales, calibration }) };
    await using generator = await Generator.open(model, { ...sizes, ...cache });
    let [errors, divergence, steps] = [0, 0, 0];
    const found: TextAccuracy[] = [];
    for (const [text, { ids, steps: wanted }] of exact.entries()) {
      const promptIds = texts[text]?.promptIds ?? [];
      const own = await continued(generator, promptIds, ids.length);
      const kept = own.findIndex((id, at) => id !== ids[at]);
      const logs = await followed(generator, promptIds, ids);
      for (const [at, log] of logs.entries()) {
        const reference = wanted[at] ?? log;
        errors += Math.abs((log[ids[at] ?? 0] ?? 0) - (reference[ids[at] ?? 0] ?? 0));
        divergence += divergenceOf(reference, log);
        steps++;
      }
      const change = kept < 0 ? undefined : changeAt(wanted[kept], logs[kept], ids[kept], own[kept]);
      found.push({ kept: kept < 0 ? ids.length : kept, tokens: ids.length, change });
    }
    yield { kind, meanError: errors / steps, divergence: divergence / steps, texts: found };
  }
}

/** The tokens that greedy decoding makes of a prompt. */
async function continued(generator: Generator, promptIds: readonly number[], count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const id of generator.generate(promptIds, { maxTokens: count })) ids.push(id);
  return ids;
}

/** Log-probabilities of the vocabulary before each token of `ids`, which follow a prompt. */
async function followed(
  generator: Generator,
  promptIds: readonly number[],
  ids: readonly number[],
): Promise<Float64Array[]> {
  const steps: Float64Array[] = [];
  for (let at = 0; at < ids.length; at++) {
    if (at === 0) await generator.prefill(promptIds);
    else await generator.step(ids.slice(at - 1, at));
    steps.push(logProbabilities(await generator.logits()));
  }
  return steps;
}

/** logits - ln(sum exp(logits)) */
function logProbabilities(logits: Float32Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
  return Float64Array.from(logits, (logit) => logit - most - Math.log(total));
}

/** sum p (log p - log q) */
function divergenceOf(p: Float64Array, q: Float64Array): number {
  return p.reduce((sum, log, token) => sum + Math.exp(log) * (log - (q[token] ?? 0)), 0);
}

function changeAt(
  exact: Float64Array | undefined,
  found: Float64Array | undefined,
  best: number | undefined,
  chosen: number | undefined,
): FirstChange | undefined {
  if (exact === undefined || found === undefined || best === undefined || chosen === undefined) return undefined;
  const preference = (logs: Float64Array): number => (logs[best] ?? 0) - (logs[chosen] ?? 0);
  const [first = 0, second = 0] = [...exact].sort((a, b) => b - a);
  return { gap: first - second, error: Math.abs(preference(exact) - preference(found)) };
}
