// What both sides of the bench do and time, each in a process of its own.
import { readFileSync } from "node:fs";

/** A prompt that is continued greedily. */
export interface Work {
  readonly name: string;
  readonly prompt: readonly number[];
  /** Tokens to decode. */
  readonly tokens: number;
  /** Rounds that are not timed go before, until so many seconds are over: one at least, none for 0. */
  readonly warmUpSeconds: number;
  /** Rounds are timed until so many seconds are over: one at least. */
  readonly seconds: number;
}

/** How both sides may keep keys and values. */
export type KvDtype = "f32" | "f16";

/** What a side is told, in JSON. */
export interface Job {
  /** A model folder, or a GGUF file. */
  readonly model: string;
  /** Of Lockstep: weights are kept in int8. */
  readonly isInt8?: boolean;
  /** Ranks, or threads. */
  readonly parallel: number;
  /** Most tokens of a text. */
  readonly capacity: number;
  /** Left out: the side's own default, which is f32 for Lockstep and f16 for llama.cpp. */
  readonly kvDtype?: KvDtype;
  readonly works: readonly Work[];
}

/** What a side measured of a work: medians over its rounds. */
export interface WorkTime {
  readonly name: string;
  /** Tokens of the prompt a second, up to the first token. */
  readonly promptRate: number;
  /** Tokens a second from the first token on. */
  readonly decodeRate: number;
  /** The tokens of the first round; every round gave the same. */
  readonly tokens: readonly number[];
}

/** The job that this process was given, on its standard input. */
export function readJob(): Job {
  return JSON.parse(readFileSync(0, "utf8"));
}

export function median(samples: readonly number[]): number {
  return [...samples].sort((a, b) => a - b)[samples.length >> 1] ?? Number.NaN;
}

/** Times works by a function that continues a prompt, forgetting what came before. */
export async function timeWorks(
  works: readonly Work[],
  continued: (prompt: readonly number[], tokens: number) => AsyncIterable<number>,
): Promise<WorkTime[]> {
  const times: WorkTime[] = [];
  for (const { name, prompt, tokens: count, warmUpSeconds, seconds } of works) {
    const rounds: { readonly promptRate: number; readonly decodeRate: number }[] = [];
    let first: readonly number[] = [];
    const round = async (): Promise<void> => {
      const tokens: number[] = [];
      const started = performance.now();
      let [firstAt, lastAt] = [started, started];
      for await (const token of continued(prompt, count)) {
        lastAt = performance.now();
        if (tokens.length === 0) firstAt = lastAt;
        tokens.push(token);
      }
      if (tokens.length !== count) throw new Error(`${name}: ${tokens.length} tokens instead of ${count}`);
      if (first.length === 0) first = tokens;
      if (tokens.join() !== first.join()) throw new Error(`${name}: other tokens in another round`);
      rounds.push({
        promptRate: (1000 * prompt.length) / (firstAt - started),
        decodeRate: (1000 * (count - 1)) / (lastAt - firstAt),
      });
    };
    const until = async (limit: number): Promise<void> => {
      const started = performance.now();
      do await round();
      while (performance.now() - started < 1000 * limit);
    };
    if (warmUpSeconds > 0) await until(warmUpSeconds);
    rounds.length = 0;
    await until(seconds);
    const middle = (rate: keyof (typeof rounds)[number]): number => median(rounds.map((timed) => timed[rate]));
    times.push({ name, promptRate: middle("promptRate"), decodeRate: middle("decodeRate"), tokens: first });
  }
  return times;
}
