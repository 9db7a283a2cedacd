// `bun run bench:peer [--model DIR] [--only TEXT] [--pairs 3] [--ranks 1,2,4] [--weights f32,f16] [--tokens 96]
// [--kv-dtype f16]`: greedy decoding beside llama.cpp, through node-llama-cpp, with the same weights, on as many
// threads as ranks.
//
// The model folder is written as GGUF files, one for each of --weights (f32, f16, bf16, q8_0); Lockstep keeps weights
// as stored, and beside q8_0 in int8. Tokens of both sides are compared before anything is timed, and in every timed
// run: with what transformers made of the demo's checkpoint, and with each other where that is not known (a
// checkpoint of --model, a repeated text); there the first 8 have to agree, and what parts later, as ties may, is
// told; weights in 8 bits may part anywhere. Each run is a process of its own, both sides run in turn, and a figure
// is the median over pairs. Ratios are of speeds, the median over pairs of ours over theirs: above 1, Lockstep is
// faster. Different tokens end the bench with exit code 1.
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { openModel } from "@lockstep/language-model";
import { Agreement } from "./agreement.ts";
import { convertToGguf } from "./gguf/convert.ts";
import { ensureLlamaCpp } from "./llama-cpp.ts";
import { type PeerOptions, readOptions } from "./options.ts";
import { DEMO_MODEL, demoPrompts, randomPrompts } from "./prompts.ts";
import { COMMAND, comparisons, printRows, type Side, type Times, timesKey, worksAndRows } from "./rows.ts";
import { hasRealTime, runSide } from "./sides.ts";
import type { Work, WorkTime } from "./works.ts";

/** Above it, something else runs on the machine. */
const IDLE_LOAD = 0.5;

const options = readOptions();
const scratch = mkdtempSync(join(tmpdir(), "lockstep-peer-"));
try {
  bench(options);
} catch (error) {
  console.error(`bench:peer: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function bench({ model = DEMO_MODEL, only, pairs, ranks, weights, tokens, kvDtype }: PeerOptions): void {
  const [load = 0] = loadavg();
  const peer = ensureLlamaCpp();
  const { config } = openModel(model);
  const prompts = model === DEMO_MODEL ? demoPrompts(config) : randomPrompts(config);
  const { works, rows } = worksAndRows(prompts, tokens, only, config.maxPositions);
  if (rows.length === 0) {
    throw new Error(
      `no row contains the text of --only, ${only}, and fits the model's ${config.maxPositions} positions`,
    );
  }
  console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores; ${peer}`);
  console.log(`load before: ${load.toFixed(2)}${load > IDLE_LOAD ? ", so the machine is not idle: run it again" : ""}`);
  console.log(`keys and values: ${kvDtype ?? "f32 (Lockstep) and f16 (llama.cpp), their defaults"}`);
  const isRealTime = hasRealTime();
  console.log(
    `llama.cpp's threads: ${isRealTime ? "with real-time priority" : "as the system schedules them, perhaps badly"}`,
  );
  const files = new Map<Side, string>(weights.map((type) => [type, join(scratch, `${type}.gguf`)]));
  for (const type of weights) convertToGguf(model, files.get(type) ?? "", type);

  const agreement = new Agreement();
  const run = (side: Side, parallel: number, wanted: readonly Work[]): WorkTime[] => {
    const capacity = Math.max(...wanted.map(({ prompt, tokens: decoded }) => prompt.length + decoded));
    const job = { parallel, capacity, works: wanted, ...(kvDtype === undefined ? {} : { kvDtype }) };
    const file = files.get(side);
    const times =
      file === undefined
        ? runSide("lockstep", { ...job, model, isInt8: side === "int8" })
        : runSide("llama.cpp", { ...job, model: file }, isRealTime && parallel > 1);
    const who =
      file === undefined ? `Lockstep (${side}) on ${parallel} ranks` : `llama.cpp ${side} on ${parallel} threads`;
    agreement.check(who, times, side === "q8_0" || side === "int8");
    return times;
  };

  /** Times a process from its start to its end. */
  const runCommand = (side: Side, parallel: number, work: Work): WorkTime[] => {
    const started = performance.now();
    const times = run(side, parallel, [work]);
    const seconds = (performance.now() - started) / 1000;
    return times.map((time) => ({ ...time, promptRate: work.prompt.length / seconds }));
  };
  const commands = works.filter(({ name }) => name === COMMAND);
  const others = works.filter(({ name }) => name !== COMMAND);

  // Before anything is timed: every continuation that is known, or else that of the first prompt.
  const once = { warmUpSeconds: 0, seconds: 0 };
  const known = prompts.known.map(({ ids, expected }, at): Work => {
    const name = `known prompt ${at + 1}`;
    agreement.expect(name, "transformers", expected);
    return { name, prompt: ids, tokens: expected.length, ...once };
  });
  for (const [name, { expected }] of [
    ["cold", prompts.short],
    ["short", prompts.short],
    ["medium", prompts.medium],
  ] as const) {
    if (expected !== undefined) agreement.expect(name, "transformers", expected);
  }
  const checked = known.length > 0 ? known : works.slice(0, 1).map((work) => ({ ...work, ...once }));
  const inTurn = comparisons(weights).flatMap(({ own, peers }): Side[] => [own, ...peers]);
  // Weights as stored first: what others are compared with where nothing else is known.
  for (const side of new Set<Side>(["stored", ...inTurn])) run(side, 2, checked);
  console.log(`tokens of ${checked.length} prompts compared; now timing, medians of ${pairs} pairs`);

  let fewer: Times | undefined;
  for (const count of ranks) {
    const hasPeers = count <= availableParallelism();
    const sides = inTurn.filter((side) => hasPeers || !files.has(side));
    const times = new Map<string, WorkTime[]>();
    for (let pair = 0; pair < pairs; pair++) {
      for (const side of pair % 2 === 0 ? sides : sides.toReversed()) {
        const ofOthers = others.length === 0 ? [] : run(side, count, others);
        for (const time of [...ofOthers, ...commands.flatMap((work) => runCommand(side, count, work))]) {
          const key = timesKey(side, time.name);
          times.set(key, [...(times.get(key) ?? []), time]);
        }
      }
    }
    console.log("");
    printRows(count, weights, rows, times, fewer);
    fewer = times;
  }
  console.log(`\ntokens: ${agreement.partial.length === 0 ? "all the same" : "the same, but for these"}`);
  for (const line of agreement.partial) console.log(`  ${line}`);
}
