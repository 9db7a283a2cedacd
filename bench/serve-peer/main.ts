// `bun run bench:serve-peer [--model DIR] [--clients 1,8,50] [--each 3] [--tokens 24] [--pairs 3] [--ranks auto]
// [--threads N] [--types f32,f16]`: many clients at once beside llama.cpp, through node-llama-cpp, with the same
// weights.
//
// Twice: as libraries, the clients in the process of the engine (`Engine`, and sequences of one context of
// node-llama-cpp), and as servers, the clients in a process of their own (the app of apps/server, and one of
// Bun.serve before node-llama-cpp, with the same route). Every client asks for its next text when it has read the
// last; prompts have 8 to 60 tokens, all are continued greedily, and end tokens end nothing. Neither side keeps
// what it computed of a prompt. All sides stay open, and have the same requests in turn, others in each pair; the first
// loads are not timed. Texts are compared in every load: where both compute in f32, more than 1 of 20 that differ
// end the bench with exit code 1, as ties within rounding may part; with f16 how many differ is told.
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { openModel } from "@lockstep/language-model";
import { convertToGguf } from "../peer/gguf/convert.ts";
import { ensureLlamaCpp } from "../peer/llama-cpp.ts";
import { DEMO_MODEL } from "../peer/prompts.ts";
import { hasRealTime } from "../peer/sides.ts";
import { median } from "../peer/works.ts";
import { printTable } from "../print-table.ts";
import type { Load } from "./clients.ts";
import { Differing } from "./differing.ts";
import { readOptions, type ServePeerOptions } from "./options.ts";
import { LONGEST, makeRequests, textsOf } from "./requests.ts";
import { header, row, type Timed } from "./rows.ts";
import { type Level, SideProcess } from "./side-process.ts";

/** Above it, something else runs on the machine. */
const IDLE_LOAD = 0.5;
/** llama.cpp's contexts are multiples of it. */
const CONTEXT_UNIT = 256;
/** Least requests of a load. */
const LEAST = 4;
/** More texts that differ, where both compute in f32, are no ties. */
const MOST_DIFFERING = 0.05;

const LEVELS: Readonly<Record<Level, string>> = {
  library: "as libraries, clients in the engine's process",
  http: "as servers, clients in a process of their own, over HTTP",
};
const OWN = "Lockstep";

const options = readOptions();
const scratch = mkdtempSync(join(tmpdir(), "lockstep-serve-peer-"));
try {
  await bench(options);
} catch (error) {
  console.error(`bench:serve-peer: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

async function bench(wanted: ServePeerOptions): Promise<void> {
  const { model = DEMO_MODEL, clients, each, tokens, pairs, ranks, threads, types } = wanted;
  const [load = 0] = loadavg();
  const peer = ensureLlamaCpp();
  const texts = textsOf(model, openModel(model).config);
  console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores; ${peer}`);
  console.log(`load before: ${load.toFixed(2)}${load > IDLE_LOAD ? ", so the machine is not idle: run it again" : ""}`);

  const context = Math.ceil((LONGEST + tokens) / CONTEXT_UNIT) * CONTEXT_UNIT;
  const job = { context, texts: Math.max(...clients) };
  const isRealTime = threads > 1 && hasRealTime();
  await using opened = new AsyncDisposableStack();
  const own = opened.use(
    await SideProcess.open("./lockstep-side.ts", { ...job, model, parallel: ranks, kvDtype: "f32" }),
  );
  const sides = new Map<string, SideProcess>([[OWN, own]]);
  for (const type of types) {
    const file = join(scratch, `${type}.gguf`);
    convertToGguf(model, file, type);
    const theirs = { ...job, model: file, parallel: threads, kvDtype: type };
    sides.set(`llama.cpp ${type}`, opened.use(await SideProcess.open("./llama-cpp-side.ts", theirs, isRealTime)));
  }
  const priority = isRealTime ? "with real-time priority" : "as the system schedules them";
  for (const [name, { about }] of sides) console.log(`${name}: ${about}${name === OWN ? "" : `, ${priority}`}`);

  const names = [...sides.keys()];
  const peers = names.slice(1);
  const differing = new Map(peers.map((name) => [name, new Differing()]));
  for (const level of ["library", "http"] as const) {
    const rows: string[][] = [];
    for (const count of clients) {
      const times = new Map<string, Timed[]>(names.map((name) => [name, []]));
      // The first pair warms up.
      for (let pair = 0; pair <= pairs; pair++) {
        const requests = makeRequests(texts, Math.max(LEAST, count * each), tokens, 1000 * pair + count);
        const loads = new Map<string, Load>();
        for (const name of pair % 2 === 0 ? names : names.toReversed()) {
          const done = await sides.get(name)?.run(level, { requests, clients: count });
          if (done === undefined) continue;
          loads.set(name, done);
          if (pair > 0) times.get(name)?.push(timed(done, tokens));
        }
        for (const name of peers) {
          differing.get(name)?.add(loads.get(OWN)?.answers ?? [], loads.get(name)?.answers ?? []);
        }
      }
      const sideTimes = (side: string) => ({ side, times: times.get(side) ?? [] });
      rows.push(row(count, sideTimes(OWN), peers.map(sideTimes)));
    }
    console.log(`\n${LEVELS[level]}; tokens a second, medians of ${pairs} ${pairs === 1 ? "pair" : "pairs"}`);
    printTable(header(OWN, peers), rows);
  }
  console.log("");
  for (const [name, texts] of differing) {
    console.log(`${name}: ${texts}`);
    if (name.endsWith("f32") && texts.share > MOST_DIFFERING) throw new Error(`wrong texts beside ${name}`);
  }
}

function timed({ answers, seconds }: Load, tokens: number): Timed {
  return { rate: (answers.length * tokens) / seconds, firstMs: median(answers.map(({ firstMs }) => firstMs)) };
}
