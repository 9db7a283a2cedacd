import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./long-context-program.ts";
import type { LongContext } from "./long-context-program.ts";
import { printTable } from "./print-table.ts";

const DECODE: LongContext = { queryHeads: 64, kvHeads: 8, headDim: 128, kvDtype: "f16", lengths: [16_384] };
const RAGGED: LongContext = { queryHeads: 16, kvHeads: 4, headDim: 64, kvDtype: "f16", lengths: [0, 1, 7, 100_000] };

function openBenchWorld(size: number, options: LongContext) {
  return openWorld<typeof program>({
    size,
    program: new URL("./long-context-program.ts", import.meta.url),
    options,
    heapBytesPerRank: 512 << 20,
    startDeadlineMs: 120_000,
    deadlineMs: 120_000,
  });
}

/**
 * Decode attention over a long context: what a second rank gains, and what short sequences beside a long one cost.
 * Steps of one layer on the wasm backend; a step's time is the slower rank's.
 */
export async function benchLongContext(): Promise<void> {
  await benchRanks();
  await benchRagged();
}

async function benchRanks(): Promise<void> {
  const { queryHeads, kvHeads, headDim, kvDtype, lengths } = DECODE;
  console.log(
    `\nDecode attention, one layer, ${lengths[0]} tokens of context, ` +
      `Hq${queryHeads} Hkv${kvHeads} D${headDim} ${kvDtype}, wasm`,
  );
  const rows: string[][] = [];
  let single = Number.NaN;
  let expected: number[] | undefined;
  for (const size of [1, 2]) {
    await using world = await openBenchWorld(size, DECODE);
    await world.call("decode", [20]);
    const results = await world.call("decode", [60]);
    const milliseconds = Math.max(...results.map((result) => result.milliseconds));
    const computing = Math.max(...results.map((result) => result.computing));
    const out = results.flatMap((result) => result.out);
    expected ??= out;
    checkClose(`${size} ranks`, out, expected);
    if (size === 1) single = milliseconds;
    const combine = size === 1 ? "" : (results[0]?.combine ?? "");
    rows.push([
      `${size} ${size === 1 ? "rank" : "ranks"}`,
      milliseconds.toFixed(2),
      (single / milliseconds).toFixed(2),
      (single / computing).toFixed(2),
      combine,
    ]);
  }
  printTable(["world", "ms a step", "times one rank", "without exchange", "combine"], rows);
}

async function benchRagged(): Promise<void> {
  const { queryHeads, kvHeads, headDim, kvDtype, lengths } = RAGGED;
  const batch = `[${lengths.join(", ")}]`;
  console.log(`\nA ragged batch, one layer, Hq${queryHeads} Hkv${kvHeads} D${headDim} ${kvDtype}, wasm`);
  const rows: string[][] = [];
  for (const size of [1, 2]) {
    await using world = await openBenchWorld(size, RAGGED);
    await world.call("raggedAndAlone", [4]);
    const results = await world.call("raggedAndAlone", [25]);
    for (const { outs } of results) {
      if (outs[0].join() !== outs[1].join()) throw new Error("a sequence's result depends on its neighbours");
    }
    const ragged = Math.max(...results.map((result) => result.ragged));
    const alone = Math.max(...results.map((result) => result.alone));
    rows.push([
      `${size} ${size === 1 ? "rank" : "ranks"}`,
      ragged.toFixed(2),
      alone.toFixed(2),
      (ragged / alone).toFixed(3),
    ]);
  }
  printTable(["world", `ms ${batch}`, `ms [${lengths.at(-1)}]`, "ratio"], rows);
}

function checkClose(what: string, actual: readonly number[], expected: readonly number[]): void {
  for (const [index, want] of expected.entries()) {
    const got = actual[index] ?? Number.NaN;
    if (!(Math.abs(got - want) <= 1e-5 + 1e-4 * Math.abs(want))) {
      throw new Error(`${what}: element ${index} is ${got} instead of ${want}`);
    }
  }
}
