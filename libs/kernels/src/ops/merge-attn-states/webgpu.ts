import { ArgumentError, contiguousStrides, DTYPE_BYTES, type DType } from "@lockstep/tensor";
import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { gpuStack } from "../../webgpu/gpu-stack.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import {
  assembleWgsl,
  type FloatDType,
  floatDType,
  floatOperand,
  rawOperand,
  type Unit,
  unitAlias,
  widestUnit,
} from "../../webgpu/wgsl-operands.ts";
import {
  alikeParts,
  areApart,
  type BoundParts,
  bindParts,
  operandOfParts,
  partsKernel,
} from "../../webgpu/wgsl-parts.ts";
import type { MergeAttnStatesArgs } from "./index.ts";
import { MERGE_ATTN_STATES_WGSL } from "./merge-attn-states.wgsl.ts";

const SHARED_PARAMS = ["rows", "workgroups", "outsStride", "lsesStride", "heads", "outsGap", "lsesGap"] as const;
const KERNEL = partsKernel(
  MERGE_ATTN_STATES_WGSL,
  "Part",
  [...SHARED_PARAMS, "unused"],
  ["outsFirst", "lsesFirst", "outFirst", "lseFirst"],
);
const THREADS = 256;
/** Units that a thread has in flight, of all states together: about so many. */
const MOST_LOADS = 8;
/** Workgroups wanted before a workgroup takes several rows. */
const WORKGROUPS_WANTED = 1024;
const FLOATS_IN_WORKGROUP_MEMORY = 4096;

/** A merge whose operands have been bound, and what its kernel depends on. */
interface Merge {
  /** Of the kernel, but for how many parts it has and how they are bound. */
  readonly kernelKey: string;
  /** The same, and what parts of one dispatch have in common. */
  readonly key: string;
  readonly from: FloatDType;
  readonly to: FloatDType;
  readonly unit: Unit;
  readonly states: number;
  readonly headDim: number;
  readonly base: "e" | "2";
  readonly nonFinite: "original" | "propagate";
  readonly loads: number;
  readonly rowsPerWorkgroup: number;
  readonly hasGaps: boolean;
  /** What all parts of a dispatch have in common. */
  readonly shared: Readonly<Record<Exclude<(typeof SHARED_PARAMS)[number], "workgroups">, number>>;
  readonly outs: Region;
  readonly lses: Region;
  readonly out: Region;
  readonly lse: Region | undefined;
}

/** Records mergeAttnStates. `args` have been checked. */
export function recordMergeAttnStates(recorder: Recorder, args: MergeAttnStatesArgs): void {
  recordMergesTogether(recorder, [args]);
}

/**
 * Records merges of which none reads or writes what another writes: those of the same sizes and strides in one dispatch,
 * as far as it can bind what they take.
 */
export function recordMergesTogether(recorder: Recorder, list: readonly MergeAttnStatesArgs[]): void {
  const begun = list.map((args) => mergeOf(recorder, args)).filter((merge) => merge !== undefined);
  // After all outputs, so that of either kind those that go to the heap lie together.
  const merges = begun.map(({ lseOperand, ...merge }): Merge => {
    return { ...merge, lse: lseOperand === undefined ? undefined : recorder.write(lseOperand) };
  });
  const fits = (parts: readonly Merge[]): boolean => {
    const { lses, outs, out, lse } = boundOf(recorder, parts);
    const written = [...out.bound, ...(lse?.bound ?? [])];
    return lses.bound.length + outs.bound.length + written.length <= recorder.mostStorageBuffers && areApart(written);
  };
  for (const parts of alikeParts(merges, ({ key }) => key, fits)) dispatchMerges(recorder, parts);
}

/** A merge but for where its LSEs go. */
type BegunMerge = Omit<Merge, "lse"> & { readonly lseOperand: Operand | undefined };

function mergeOf(recorder: Recorder, args: MergeAttnStatesArgs): BegunMerge | undefined {
  const { outs, lses, base = "e", nonFinite = "original", out, lse } = args;
  const [first] = outs;
  if (first === undefined) return undefined;
  const outsGap = tokenGap("outs", outs);
  const lsesGap = tokenGap("lses", lses);
  expectContiguousOnGpu("mergeAttnStates", "out", out);
  if (lse !== undefined) expectContiguousOnGpu("mergeAttnStates", "lse", lse);
  const states = outs.length;
  if (states > FLOATS_IN_WORKGROUP_MEMORY) {
    const most = `at most ${FLOATS_IN_WORKGROUP_MEMORY} states`;
    throw new ArgumentError("mergeAttnStates", "outs", most, `${states}`, "Merge them in several calls.");
  }
  const [tokens = 0, heads = 0, headDim = 0] = first.shape;
  const rows = tokens * heads;
  const outsStack = recorder.readStack(outs);
  const lsesStack = recorder.readStack(lses);
  const outRegion = recorder.write(out);
  const offsets = [headDim, outsStack.region.first, outsStack.stride, outsGap, outRegion.first];
  const [from, to] = [floatDType(first.dtype), floatDType(out.dtype)];
  const unit = widestUnit([from, to], offsets);
  const rowUnits = headDim / unit;
  const mostLoads = Math.max(1, Math.floor(MOST_LOADS / states));
  const rowsPerWorkgroup = chooseRows(rows, rowUnits, states, mostLoads);
  const loads = Math.max(1, Math.min(mostLoads, Math.ceil((rowsPerWorkgroup * rowUnits) / THREADS)));
  const hasGaps = outsGap !== 0 || lsesGap !== 0;
  const shared = {
    rows,
    outsStride: outsStack.stride / unit,
    lsesStride: lsesStack.stride,
    heads,
    outsGap: outsGap / unit,
    lsesGap,
  };
  const kernelKey =
    `merge-attn-states ${from}->${to} D${headDim} N${states} unit${unit} rows${rowsPerWorkgroup} base${base} ` +
    `${nonFinite}${hasGaps ? " gaps" : ""}${lse === undefined ? "" : " lse"}`;
  return {
    kernelKey,
    key: `${kernelKey} ${Object.values(shared).join(" ")}`,
    from,
    to,
    unit,
    states,
    headDim,
    base,
    nonFinite,
    loads,
    rowsPerWorkgroup,
    hasGaps,
    shared,
    outs: outsStack.region,
    lses: lsesStack.region,
    out: outRegion,
    lseOperand: lse,
  };
}

/** The operands of the parts of a dispatch, as they are bound. */
function boundOf(recorder: Recorder, parts: readonly Merge[]) {
  const { mostBindable } = recorder;
  const bound = (regions: readonly Region[], dtype: DType): BoundParts => {
    return bindParts(regions, DTYPE_BYTES[dtype], mostBindable);
  };
  const [one] = parts;
  const lseRegions = parts.map(({ lse }) => lse).filter((lse) => lse !== undefined);
  return {
    lses: bound(
      parts.map(({ lses }) => lses),
      "f32",
    ),
    outs: bound(
      parts.map(({ outs }) => outs),
      one?.from ?? "f32",
    ),
    out: bound(
      parts.map(({ out }) => out),
      one?.to ?? "f32",
    ),
    lse: lseRegions.length === 0 ? undefined : bound(lseRegions, "f32"),
  };
}

function dispatchMerges(recorder: Recorder, parts: readonly Merge[]): void {
  const [one] = parts;
  if (one === undefined) return;
  const { unit, states, headDim, loads, rowsPerWorkgroup, from, to, shared } = one;
  const { lses, outs, out, lse } = boundOf(recorder, parts);
  const [lsesBound, outsBound, outBound, lseBound] = [lses, outs, out, lse].map((of) => of?.bound.length ?? 0);
  const rowUnits = headDim / unit;
  const constants = {
    THREADS,
    ROWS: rowsPerWorkgroup,
    ROW_UNITS: rowUnits,
    STATES: states,
    LOADS: loads,
    FETCHED: loads * states,
    BASE_2: one.base === "2",
    PROPAGATE: one.nonFinite === "propagate",
    GAPS: one.hasGaps,
    PARTS: parts.length,
  };
  const read = [...lses.bound, ...outs.bound];
  const written = [...out.bound, ...(lse?.bound ?? [])];
  const many = parts.length === 1 ? "" : ` parts${parts.length} in ${lsesBound},${outsBound},${outBound},${lseBound}`;
  const kernel = recorder.kernel({
    key: `${one.kernelKey}${many}`,
    entryPoint: "merge_attn_states",
    bindings: ["uniform", ...read.map(() => "read" as const), ...written.map(() => "write" as const)],
    wgsl: () =>
      assembleWgsl(KERNEL.wgsl(parts.length), constants, [
        unitAlias(unit),
        lseParts("lses", 1, lses.bound.length, "read"),
        floatParts("outs", 1 + lses.bound.length, outs.bound.length, from, unit, "read"),
        floatParts("out", 1 + read.length, out.bound.length, to, unit, "write"),
        lse === undefined
          ? LSE_DROPPED
          : lseParts("lse", 1 + read.length + out.bound.length, lse.bound.length, "write"),
      ]),
  });
  const workgroups = Math.ceil(shared.rows / rowsPerWorkgroup);
  const params = recorder.uniform(
    KERNEL.pack(
      { ...shared, workgroups, unused: 0 },
      parts.map((_, part) => ({
        outsFirst: (outs.firsts[part] ?? 0) / unit,
        lsesFirst: lses.firsts[part] ?? 0,
        outFirst: (out.firsts[part] ?? 0) / unit,
        lseFirst: lse?.firsts[part] ?? 0,
      })),
    ),
  );
  recorder.dispatch(kernel, [params, ...read, ...written], workgroups * parts.length);
}

/** Outputs of the parts. */
function floatParts(
  name: string,
  first: number,
  bindings: number,
  dtype: FloatDType,
  unit: Unit,
  access: "read" | "write",
): string {
  const declared = (of: string, binding: number): string => floatOperand(of, binding, dtype, unit, access);
  if (access === "write") {
    const value = { name: "value", type: "Unit" };
    return operandOfParts(name, first, bindings, declared, [{ name: "store", value }]);
  }
  const one = bindings === 1 ? name : `${name}_0`;
  return [
    operandOfParts(name, first, bindings, declared, [{ name: "fetch", result: `Fetched_${one}` }]),
    `alias Fetched = Fetched_${one};`,
    `fn decoded(fetched: Fetched) -> Unit { return decoded_${one}(fetched); }`,
  ].join("\n");
}

/** Bits of LSEs of the parts. */
function lseParts(name: string, first: number, bindings: number, access: "read" | "write"): string {
  const declared = (of: string, binding: number): string => rawOperand(of, binding, 4, access);
  const [load, store] = [
    { name: "load", result: "u32" },
    { name: "store", value: { name: "value", type: "u32" } },
  ];
  return operandOfParts(name, first, bindings, declared, [access === "read" ? load : store]);
}

/**
 * Elements between the rows of one token and of the next, beyond the rows: of operands on the GPU that are some heads of
 * larger ones. @throws ArgumentError for GPU operands with other strides, and for several that do not lie alike
 */
function tokenGap(argument: "outs" | "lses", operands: readonly Operand[]): number {
  const [first] = operands;
  if (first === undefined) return 0;
  const inner = first.size === 0 ? 0 : first.size / (first.shape[0] ?? 0);
  const isStack = gpuStack(operands) !== undefined;
  const [tokenStride = 0, ...rest] = first.strides;
  const rowMajor = contiguousStrides(first.shape).slice(1);
  const isWholeRows = rest.every((step, dim) => step === rowMajor[dim] || first.shape[dim + 1] === 1);
  if (isStack && (first.shape[0] ?? 0) > 1 && isWholeRows && tokenStride >= inner) return tokenStride - inner;
  for (const [index, operand] of operands.entries()) {
    expectContiguousOnGpu("mergeAttnStates", `${argument}[${index}]`, operand);
  }
  return 0;
}

const LSE_DROPPED = "fn store_lse_of(part: u32, i: u32, value: u32) {}";

/** Enough rows that every thread streams a few units, as long as there are workgroups for the whole chip. */
function chooseRows(rows: number, rowUnits: number, states: number, loads: number): number {
  const streaming = (THREADS * loads) / Math.max(1, rowUnits);
  const spread = rows / WORKGROUPS_WANTED;
  const fitting = FLOATS_IN_WORKGROUP_MEMORY / states;
  return 2 ** Math.floor(Math.log2(Math.max(1, Math.min(streaming, spread, fitting, THREADS))));
}
