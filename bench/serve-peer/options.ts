import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";

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

/** Reads the command line; ends the process with exit code 2 and a line that says what is wrong. */
export function readOptions(args: readonly string[]): ServePeerOptions {
  const { model, clients, each, tokens, pairs, ranks, threads, types } = parsed(args);
  return {
    ...(model === undefined ? {} : { model }),
    clients: clients.split(",").map((text) => count("clients", text)),
    each: count("each", each),
    tokens: count("tokens", tokens),
    pairs: count("pairs", pairs),
    ranks: ranks === "auto" ? "auto" : count("ranks", ranks),
    threads: count("threads", threads),
    types: types
      .split(",")
      .map((name) => PEER_TYPES.find((type) => type === name) ?? refuse(`--types: no ${name}, but f32, f16`)),
  };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        clients: { type: "string", default: "1,8,50" },
        each: { type: "string", default: "3" },
        tokens: { type: "string", default: "24" },
        pairs: { type: "string", default: "3" },
        ranks: { type: "string", default: "auto" },
        threads: { type: "string", default: `${availableParallelism()}` },
        types: { type: "string", default: "f32,f16" },
      },
    }).values;
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function count(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  return refuse(`--${name} must be whole numbers from 1, but is ${text}`);
}

function refuse(message: string): never {
  console.error(`bench:serve-peer: ${message}`);
  process.exit(2);
}
