import { checkKvShard, checkKvWeights, checkScoreFactor, KV_DTYPES } from "@lockstep/kernels";
import { ArgumentError, type DType, describe, SharedHeap, Tensor } from "@lockstep/tensor";
import { expectBackend, expectGroup, expectRecord } from "../arguments/expect-argument.ts";
import { COMBINES } from "../combine/combine.ts";
import { LATTICE_COMBINES, MOST_LATTICE_RANKS } from "../combine/lattice-combine.ts";
import { checkKvScales, layerScales } from "../kv/kv-scales.ts";
import { checkVariant } from "./attention-variant.ts";
import type { DcpAttentionOptions } from "./dcp-attention-options.ts";
import type { FilledOptions } from "./option-defaults.ts";

const NAME = "DcpAttention.open";

/** What kernels and plans can count, far beyond any model. What fits is for the heap or the device to say. */
const MOST = {
  layers: 2 ** 16,
  queryHeads: 2 ** 20,
  kvHeads: 2 ** 20,
  headDim: 2 ** 20,
  valueDim: 2 ** 20,
  blockSize: 2 ** 20,
  interleave: 2 ** 20,
  numBlocks: 2 ** 31 - 1,
  maxStepQueries: 2 ** 31 - 1,
  prefillChunk: 2 ** 31 - 1,
} as const;

function checkCount(field: string, count: number, most: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= most) return;
  throw new ArgumentError(NAME, field, `an integer from 1 to ${most}`, describe(count));
}

/**
 * Throws ArgumentError unless the options go together.
 * @param given as the caller gave them
 * @param options the same with their defaults
 */
export function checkOptions(given: DcpAttentionOptions, options: FilledOptions): void {
  const { dcpGroup, blockSize, interleave, combine, lseBase } = options;
  for (const field of ["layers", "queryHeads", "kvHeads", "headDim", "blockSize", "numBlocks"] as const) {
    checkCount(field, options[field], MOST[field]);
  }
  for (const field of ["valueDim", "interleave", "maxStepQueries", "prefillChunk"] as const) {
    if (given[field] !== undefined) checkCount(field, given[field], MOST[field]);
  }
  const { prefillChunk, deadlineMs } = options;
  if (deadlineMs !== undefined && !(typeof deadlineMs === "number" && deadlineMs > 0 && deadlineMs <= 2 ** 31 - 1)) {
    throw new ArgumentError(NAME, "deadlineMs", "milliseconds, more than 0 and less than 2^31", describe(deadlineMs));
  }
  if (options.pcpGroup !== undefined && prefillChunk === undefined) {
    throw new ArgumentError(NAME, "prefillChunk", "given with a pcpGroup, which only prefill uses", "left out");
  }
  checkDtypes(given, options);
  checkHeads(given, options);
  checkVariant(NAME, options);
  checkFactors(options);
  if (lseBase !== "e" && lseBase !== "2") {
    throw new ArgumentError(NAME, "lseBase", '"e" or "2"', describe(lseBase));
  }
  if (combine !== "auto" && !COMBINES.includes(combine)) {
    throw new ArgumentError(NAME, "combine", '"ag-rs", "a2a", "one-shot" or "auto"', describe(combine));
  }
  checkDeterministic(options);
  if (!["auto", "on", "off"].includes(options.overlap)) {
    throw new ArgumentError(NAME, "overlap", '"auto", "on" or "off"', describe(options.overlap));
  }
  if (given.mergeBackend?.isSynchronous === false) {
    throw new ArgumentError(NAME, "mergeBackend", "a wasm or reference backend", given.mergeBackend.name);
  }
  checkKvShard(NAME, { index: dcpGroup.rank, count: dcpGroup.size, interleave }, blockSize);
  if (given.weights !== undefined) checkWeights(given.weights, dcpGroup.size, blockSize);
}

/** Throws ArgumentError unless what bits may depend on goes with how ranks exchange. */
function checkDeterministic({ deterministic, combine, partialDtype, dcpGroup }: FilledOptions): void {
  if (deterministic !== "rank-order" && deterministic !== "world-invariant") {
    throw new ArgumentError(NAME, "deterministic", '"rank-order" or "world-invariant"', describe(deterministic));
  }
  if (deterministic === "rank-order") return;
  const mode = 'with deterministic "world-invariant"';
  if (combine !== "auto" && !LATTICE_COMBINES.includes(combine)) {
    throw new ArgumentError(NAME, "combine", `"a2a", "ag-rs" or "auto" ${mode}`, describe(combine));
  }
  if (partialDtype !== "f32") {
    const advice = "Its sums are exact integers, which 16 bits would round by rank.";
    throw new ArgumentError(NAME, "partialDtype", `f32 ${mode}`, partialDtype, advice);
  }
  if (dcpGroup.size <= MOST_LATTICE_RANKS) return;
  throw new ArgumentError(NAME, "dcpGroup", `of at most ${MOST_LATTICE_RANKS} ranks ${mode}`, `${dcpGroup.size}`);
}

/** Throws ArgumentError unless these are weights of so many ranks, whose blocks caches can have. */
function checkWeights(weights: readonly number[], ranks: number, blockSize: number): void {
  checkKvWeights(NAME, "weights", weights, ranks);
  const most = Math.max(...weights);
  if (most * blockSize <= MOST.blockSize) return;
  const expected = `at most ${Math.floor(MOST.blockSize / blockSize)} each with a block size of ${blockSize}`;
  throw new ArgumentError(NAME, "weights", expected, `${most}`);
}

/** Throws ArgumentError unless backends, heap and groups are what they are called. */
export function checkKinds(options: DcpAttentionOptions): void {
  expectRecord(NAME, "options", options);
  const { backend, mergeBackend, heap, dcpGroup, queryGroup, pcpGroup, onPartialLse, sinks } = options;
  for (const field of ["mla", "queryReplicated", "prefixCache"] as const) {
    const flag: unknown = options[field];
    if (flag === undefined || typeof flag === "boolean") continue;
    throw new ArgumentError(NAME, field, "true or false", describe(flag));
  }
  expectBackend(NAME, "backend", backend);
  if (mergeBackend !== undefined) expectBackend(NAME, "mergeBackend", mergeBackend);
  if (!(heap instanceof SharedHeap)) throw new ArgumentError(NAME, "heap", "a SharedHeap", describe(heap));
  expectGroup(NAME, "dcpGroup", dcpGroup);
  if (queryGroup !== undefined) expectGroup(NAME, "queryGroup", queryGroup);
  if (pcpGroup !== undefined) expectGroup(NAME, "pcpGroup", pcpGroup);
  if (onPartialLse !== undefined && typeof onPartialLse !== "function") {
    throw new ArgumentError(NAME, "onPartialLse", "a function", describe(onPartialLse));
  }
  if (sinks === undefined) return;
  if (!(sinks instanceof Tensor)) throw new ArgumentError(NAME, "sinks", "a tensor", describe(sinks));
  sinks.assertUsable(NAME, "sinks");
}

/** Throws ArgumentError unless scores' factors stay normal numbers of f32, multiplied together as kernels do. */
function checkFactors(options: FilledOptions): void {
  const { scale, queryScale, layers, mla, kvDtype } = options;
  const factor = scale * queryScale;
  checkScoreFactor(NAME, queryScale === 1 ? "scale" : "scale times queryScale", factor);
  // Kernels take e4m3 numbers as multiples of 1/256.
  const worth = kvDtype === "f8e4m3" ? 256 : 1;
  for (const { keyScale = [] } of layerScales(options.kvScales, layers, mla)) {
    for (let at = 0; at < keyScale.length; at++) {
      checkScoreFactor(NAME, "scale times queryScale times kvScales.key", factor * (keyScale[at] ?? 1) * worth);
    }
  }
}

function checkDtypes({ queryScale }: DcpAttentionOptions, options: FilledOptions): void {
  const floats: readonly DType[] = ["f32", "f16", "bf16"];
  const { kvDtype, queryDtype, gatherDtype, queryReplicated, partialDtype, combine } = options;
  if (!floats.includes(partialDtype)) throw new ArgumentError(NAME, "partialDtype", floats.join(", "), partialDtype);
  if (partialDtype !== "f32" && combine !== "auto" && combine !== "a2a") {
    throw new ArgumentError(NAME, "combine", `"a2a" or "auto" with a partialDtype of ${partialDtype}`, combine);
  }
  if (!KV_DTYPES.includes(kvDtype)) throw new ArgumentError(NAME, "kvDtype", KV_DTYPES.join(", "), kvDtype);
  if (!floats.includes(queryDtype)) throw new ArgumentError(NAME, "queryDtype", floats.join(", "), queryDtype);
  if (gatherDtype !== queryDtype && gatherDtype !== "f8e4m3") {
    throw new ArgumentError(NAME, "gatherDtype", `the queryDtype ${queryDtype}, or f8e4m3`, gatherDtype);
  }
  if (gatherDtype === "f8e4m3" && queryReplicated) {
    throw new ArgumentError(NAME, "gatherDtype", "left out with queryReplicated, which gathers nothing", gatherDtype);
  }
  if (queryScale !== undefined && gatherDtype !== "f8e4m3") {
    throw new ArgumentError(
      NAME,
      "queryScale",
      `left out unless gatherDtype is f8e4m3 (it is ${gatherDtype})`,
      `${queryScale}`,
    );
  }
  if (queryScale !== undefined && !(queryScale >= 2 ** -100 && queryScale <= 2 ** 100)) {
    throw new ArgumentError(NAME, "queryScale", "from 2^-100 to 2^100", describe(queryScale));
  }
  checkKvScales(NAME, options.kvScales, options);
}

function checkHeads({ headGroup }: DcpAttentionOptions, options: FilledOptions): void {
  const { queryHeads, kvHeads, headDim, valueDim, mla } = options;
  if (mla && kvHeads !== 1) {
    throw new ArgumentError(NAME, "kvHeads", "1 with mla, whose query heads share one latent head", describe(kvHeads));
  }
  if (mla && valueDim > headDim) {
    const expected = `at most headDim = ${headDim} with mla, whose values are columns of the keys`;
    throw new ArgumentError(NAME, "valueDim", expected, describe(valueDim));
  }
  if (headGroup !== undefined) {
    expectRecord(NAME, "headGroup", headGroup);
    const last = Math.floor((queryHeads - 1 + headGroup.offset) / headGroup.size);
    const isWhole =
      Number.isInteger(headGroup.size) &&
      headGroup.size > 0 &&
      Number.isInteger(headGroup.offset) &&
      headGroup.offset >= 0;
    if (!isWhole || last >= kvHeads) {
      const expected = `one that maps ${queryHeads} query heads to the ${kvHeads} stored KV heads`;
      throw new ArgumentError(NAME, "headGroup", expected, `size ${headGroup.size}, offset ${headGroup.offset}`);
    }
  }
  if (headGroup === undefined && queryHeads % kvHeads !== 0) {
    throw new ArgumentError(
      NAME,
      "queryHeads",
      `a multiple of kvHeads = ${kvHeads} (or give headGroup)`,
      `${queryHeads}`,
    );
  }
}
