import { parseArgs } from "node:util";
import { ELEMENT_TYPES, type ElementType } from "./gguf/element-types.ts";
import type { KvDtype } from "./works.ts";

/** What `bench:peer` was asked. */
export interface PeerOptions {
  /** A model folder; left out: the demo's. */
  readonly model?: string;
  readonly only: string;
  readonly pairs: number;
  readonly ranks: readonly number[];
  /** Types of llama.cpp's weights. */
  readonly weights: readonly ElementType[];
  /** Tokens to decode in each work. */
  readonly tokens: number;
  readonly kvDtype?: KvDtype;
}

/** Reads the command line; ends the process with exit code 2 and a line that says what is wrong. */
export function readOptions(args: readonly string[]): PeerOptions {
  const values = parsed(args);
  const { model, only, "kv-dtype": kvDtype } = values;
  if (kvDtype !== undefined && kvDtype !== "f32" && kvDtype !== "f16") {
    refuse(`--kv-dtype must be f32 or f16, but is ${kvDtype}`);
  }
  return {
    ...(model === undefined ? {} : { model }),
    only,
    pairs: count("pairs", values.pairs, 1),
    ranks: values.ranks.split(",").map((ranks) => count("ranks", ranks, 1)),
    weights: values.weights
      .split(",")
      .map((name) => ELEMENT_TYPES.find((type) => type === name) ?? refuse(`--weights: no ${name}, but ${known}`)),
    tokens: count("tokens", values.tokens, 2),
    ...(kvDtype === undefined ? {} : { kvDtype }),
  };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        only: { type: "string", default: "" },
        pairs: { type: "string", default: "3" },
        ranks: { type: "string", default: "1,2,4" },
        weights: { type: "string", default: "f32,f16" },
        tokens: { type: "string", default: "96" },
        "kv-dtype": { type: "string" },
      },
    }).values;
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

const known = ELEMENT_TYPES.join(", ");

function count(name: string, text: string, least: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  return refuse(`--${name} must be whole numbers from ${least}, but is ${text}`);
}

function refuse(message: string): never {
  console.error(`bench:peer: ${message}`);
  process.exit(2);
}
