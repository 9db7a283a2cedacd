// `bun run bench:serve`: the server under load on this machine, its clients included. Each text is compared with that
// of the same request alone, to a server that shares no prefixes. `--help` tells what else it can measure.
import { availableParallelism, cpus } from "node:os";
import { measureLoad } from "./load-targets.ts";
import { measureMemory } from "./memory-targets.ts";
import { measureNeighbours } from "./neighbour-targets.ts";
import { readOptions } from "./options.ts";
import { Targets } from "./targets.ts";

const options = readOptions();
const { runtime, clients, requests, tokens, memory, bad, rude } = options;
const started = { runtime, args: ["--world", options.world, "--max-context", "2048"] };
const targets = new Targets();
console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores, ${runtime}`);
if (requests > 0) await measureLoad(options, started, targets);
if (memory > 0) await measureMemory(options, started, targets);
if (bad + rude > 0) await measureNeighbours(options, started, targets);
console.log(`${clients} clients, texts of ${tokens} tokens, prompts of 8 to 60`);
targets.print();
process.exit(targets.hasMissed ? 1 : 0);
