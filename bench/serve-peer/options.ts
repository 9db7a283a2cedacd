import { availableParallelism } from "node:os";
import { readCommandLine, refuseCommand, wholeNumber, wholeNumbers } from "../../scripts/command-line.ts";

/** Types of llama.cpp's weights, and of its keys and values. */
export const PEER_TYPES = ["f32", "f16"] as const;
export type PeerType = (typeof PEER_TYPES)[number];

/** What `bench:serve-peer` was asked. */
export interface ServePeerOptions {
  /** A model folder; left out: the demo's. */
  readonly model?: string;
  readonly clients: readonly number[];
  /** Requests of each client in a load, of 4 at least in all. */
  readonly each: number;
  /** Tokens of each text. */
  readonly tokens: number;
  readonly pairs: number;
  readonly ranks: number | "auto";
  readonly threads: number;
  readonly types: readonly PeerType[];
}

const NAME = "bench:serve-peer";

/** Reads the command line; ends the process with exit code 2 and a line that says what is wrong. */
export function readOptions(args?: readonly string[]): ServePeerOptions {
  const { values } = readCommandLine(
    {
      name: NAME,
      does: "Has many clients at once ask Lockstep and llama.cpp for texts, as libraries and as servers.",
      options: {
        model: { type: "string", takes: "DIR", help: "model folder (default: the demo's)" },
        clients: { type: "string", default: "1,8,50", takes: "N,N", help: "clients at once" },
        each: { type: "string", default: "3", takes: "N", help: "requests of each client, of 4 at least in all" },
        tokens: { type: "string", default: "24", takes: "N", help: "tokens of each text" },
        pairs: { type: "string", default: "3", takes: "N", help: "loads of both sides, in turn" },
        ranks: { type: "string", default: "auto", takes: "N", help: "ranks, or auto: as `serve` chooses them" },
        threads: { type: "string", default: `${availableParallelism()}`, takes: "N", help: "llama.cpp's threads" },
        types: { type: "string", default: "f32,f16", takes: "T,T", help: "llama.cpp's types, of f32, f16" },
      },
    },
    args,
  );
  const { model, ranks } = values;
  return {
    ...(model === undefined ? {} : { model }),
    clients: wholeNumbers(NAME, "clients", values.clients, 1),
    each: wholeNumber(NAME, "each", values.each, 1),
    tokens: wholeNumber(NAME, "tokens", values.tokens, 1),
    pairs: wholeNumber(NAME, "pairs", values.pairs, 1),
    ranks: ranks === "auto" ? "auto" : wholeNumber(NAME, "ranks", ranks, 1),
    threads: wholeNumber(NAME, "threads", values.threads, 1),
    types: values.types.split(",").map((name) => {
      const type = PEER_TYPES.find((one) => one === name);
      return type ?? refuseCommand(NAME, `--types: no ${name}, but f32, f16`);
    }),
  };
}
