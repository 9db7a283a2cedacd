import { readCommandLine, refuseCommand, wholeNumber, wholeNumbers } from "../../scripts/command-line.ts";
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

const NAME = "bench:peer";
const known = ELEMENT_TYPES.join(", ");

/** Reads the command line; ends the process with exit code 2 and a line that says what is wrong. */
export function readOptions(args?: readonly string[]): PeerOptions {
  const { values } = readCommandLine(
    {
      name: NAME,
      does: "Decodes greedily beside llama.cpp, with the same weights, on as many threads as ranks.",
      options: {
        model: { type: "string", takes: "DIR", help: "model folder (default: the demo's)" },
        only: { type: "string", default: "", takes: "TEXT", help: "works whose names contain it" },
        pairs: { type: "string", default: "3", takes: "N", help: "runs of both sides, in turn" },
        ranks: { type: "string", default: "1,2,4", takes: "N,N", help: "numbers of ranks, and of llama.cpp's threads" },
        weights: { type: "string", default: "f32,f16", takes: "T,T", help: `llama.cpp's types, of ${known}` },
        tokens: { type: "string", default: "96", takes: "N", help: "tokens to decode, from 2" },
        "kv-dtype": { type: "string", takes: "T", help: "f32 or f16: type of the cached keys and values" },
      },
    },
    args,
  );
  const { model, only, "kv-dtype": kvDtype } = values;
  if (kvDtype !== undefined && kvDtype !== "f32" && kvDtype !== "f16") {
    refuseCommand(NAME, `--kv-dtype must be f32 or f16, but is ${kvDtype}`);
  }
  return {
    ...(model === undefined ? {} : { model }),
    only,
    pairs: wholeNumber(NAME, "pairs", values.pairs, 1),
    ranks: wholeNumbers(NAME, "ranks", values.ranks, 1),
    weights: values.weights.split(",").map((name) => {
      const type = ELEMENT_TYPES.find((one) => one === name);
      return type ?? refuseCommand(NAME, `--weights: no ${name}, but ${known}`);
    }),
    tokens: wholeNumber(NAME, "tokens", values.tokens, 2),
    ...(kvDtype === undefined ? {} : { kvDtype }),
  };
}
