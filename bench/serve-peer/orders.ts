// How the bench talks to a side, which is a process of its own: a job in JSON as its argument, then one line of JSON
// for each load, answered by one. The first line that a side writes tells that it listens. It ends with its input.
import process from "node:process";
import { createInterface } from "node:readline";
import { type Load, runClients, type TextPart } from "./clients.ts";
import type { TextRequest } from "./requests.ts";

/** What a side is told when it starts. */
export interface Job {
  /** A model folder, or a GGUF file. */
  readonly model: string;
  /** Ranks, or threads; "auto" as many as the side thinks best. */
  readonly parallel: number | "auto";
  /** Most tokens of a text, prompt included. */
  readonly context: number;
  /** Texts at once: the KV cache holds so many of the longest. */
  readonly texts: number;
  readonly kvDtype: "f32" | "f16";
}

/** What a side tells when it listens. */
export interface Ready {
  readonly url: string;
  /** In words, what it runs on. */
  readonly about: string;
}

/** A load of clients within the side's process, beside its engine. */
export interface Order {
  readonly requests: readonly TextRequest[];
  readonly clients: number;
}

/** The job of this process. */
export function readJob(): Job {
  return JSON.parse(process.argv[2] ?? "");
}

/** Tells that the side listens, and carries out what it is told, until its input ends. */
export async function obey(ready: Ready, ask: (request: TextRequest) => AsyncIterable<TextPart>): Promise<void> {
  const write = (answer: Ready | Load): void => {
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  };
  write(ready);
  for await (const line of createInterface({ input: process.stdin })) {
    const { requests, clients }: Order = JSON.parse(line);
    write(await runClients(requests, clients, ask));
  }
}
