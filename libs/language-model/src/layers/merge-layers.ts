import type { RecordedLayer } from "./layer-program.ts";

/** Bytes of a weight. */
const WEIGHT_BYTES: Readonly<Record<string, number>> = {
  linearF32: 4,
  linearBf16: 2,
  linearF16: 2,
  linearFiniteF16: 2,
};

/**
 * The same layers in fewer calls, with the same bits, where one input goes through several products:
 * - of one token, products whose weights lie one behind another, and whose results do, are one product with more rows,
 *   unless results lie over the input. A matrix is read in a few long streams, each of which takes its time to get
 * going: the MLP's two matrices of 352   rows of 256 in bf16 took 29 us one by one, and take 18 together
 * - an input that is quantised again for the next product with int8 weights, by the same call, already is
 */
export function mergedLayers(recorded: readonly RecordedLayer[]): readonly RecordedLayer[] {
  const merged: RecordedLayer[] = [];
  for (const layer of recorded) {
    if (isQuantisedAlready(merged, layer)) continue;
    const last = merged.at(-1);
    const both = last === undefined ? undefined : asOne(last, layer);
    if (both === undefined) merged.push(layer);
    else merged[merged.length - 1] = both;
  }
  return merged;
}

/** Two products as one: arguments as of linear.as.ts. Undefined where they are none. */
function asOne(first: RecordedLayer, second: RecordedLayer): RecordedLayer | undefined {
  const weightBytes = WEIGHT_BYTES[first.name];
  if (weightBytes === undefined || first.name !== second.name) return undefined;
  const [x = 0, weight = 0, y = 0, tokens, outs = 0, ins = 0, scratch] = first.args;
  const [nextX, nextWeight, nextY, nextTokens, nextOuts = 0, nextIns, nextScratch] = second.args;
  const isSameInput = x === nextX && tokens === 1 && nextTokens === 1 && ins === nextIns && scratch === nextScratch;
  const isBehind = nextWeight === weight + outs * ins * weightBytes && nextY === y + 4 * outs;
  if (!isSameInput || !isBehind || lieOver(y, outs + nextOuts, x, ins)) return undefined;
  return { name: first.name, args: first.args.with(4, outs + nextOuts) };
}

/** Whether a layer quantises what lies quantised where it would go: only products have come since, which leave it. */
function isQuantisedAlready(before: readonly RecordedLayer[], layer: RecordedLayer): boolean {
  if (layer.name !== "quantiseInputs") return false;
  const [x = 0, , , tokens = 0, ins = 0] = layer.args;
  for (const { name, args } of before.toReversed()) {
    if (name === "quantiseInputs") return args.every((argument, at) => argument === layer.args[at]);
    if (name !== "linearInt8") return false;
    const [, , , , y = 0, count = 0, outs = 0] = args;
    if (lieOver(y, count * outs, x, tokens * ins)) return false;
  }
  return false;
}

/** Whether so many f32 from one byte offset on share memory with so many from another. */
function lieOver(y: number, results: number, x: number, inputs: number): boolean {
  return y < x + 4 * inputs && x < y + 4 * results;
}
