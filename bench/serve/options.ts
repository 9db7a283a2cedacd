import { readCommandLine, refuseCommand, wholeNumber } from "../../scripts/command-line.ts";

const NAME = "bench:serve";

/** What `bench:serve` was asked. */
export interface ServeBenchOptions {
  readonly clients: number;
  readonly requests: number;
  /** Of each text. */
  readonly tokens: number;
  readonly world: string;
  readonly runtime: "bun" | "deno";
  /** Requests over which memory is looked at; 0: it is not. */
  readonly memory: number;
  /** Bad requests to send while others ask for texts. */
  readonly bad: number;
  readonly badRate: number;
  /** Rude clients, likewise. */
  readonly rude: number;
  readonly rudeRate: number;
}

/** Reads the command line; ends the process with exit code 2 and a line that says what is wrong. */
export function readOptions(): ServeBenchOptions {
  const { values } = readCommandLine({
    name: NAME,
    does: "Times the server under load on this machine, its clients included, and checks its texts.",
    options: {
      clients: { type: "string", default: "50", takes: "N", help: "who ask for texts at once" },
      requests: { type: "string", default: "500", takes: "N", help: "texts to ask for; 0: no times of texts" },
      tokens: { type: "string", default: "24", takes: "N", help: "of each text" },
      world: { type: "string", default: "auto", takes: "N", help: "ranks, or auto" },
      runtime: { type: "string", default: "bun", takes: "R", help: "of the server: bun or deno" },
      memory: { type: "string", default: "0", takes: "N", help: "also memory over N requests, in 500s, from 1000" },
      bad: { type: "string", default: "0", takes: "N", help: "also what N bad requests cost others" },
      "bad-rate": { type: "string", default: "100", takes: "N", help: "bad requests a second" },
      rude: { type: "string", default: "0", takes: "N", help: "also what N rude clients cost others" },
      "rude-rate": { type: "string", default: "20", takes: "N", help: "rude clients a second" },
    },
  });
  const { runtime, world } = values;
  if (runtime !== "bun" && runtime !== "deno") refuseCommand(NAME, `--runtime must be bun or deno, but is ${runtime}`);
  if (world !== "auto") wholeNumber(NAME, "world", world, 1);
  const memory = wholeNumber(NAME, "memory", values.memory, 0);
  if (memory !== 0 && memory < 1000) refuseCommand(NAME, `--memory must be 0 or at least 1000, but is ${memory}`);
  return {
    clients: wholeNumber(NAME, "clients", values.clients, 1),
    requests: wholeNumber(NAME, "requests", values.requests, 0),
    tokens: wholeNumber(NAME, "tokens", values.tokens, 2),
    world,
    runtime,
    memory,
    bad: wholeNumber(NAME, "bad", values.bad, 0),
    badRate: wholeNumber(NAME, "bad-rate", values["bad-rate"], 1),
    rude: wholeNumber(NAME, "rude", values.rude, 0),
    rudeRate: wholeNumber(NAME, "rude-rate", values["rude-rate"], 1),
  };
}
