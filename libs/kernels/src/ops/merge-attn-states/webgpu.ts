import { ArgumentError, contiguousStrides } from "@lockstep/tensor";
import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { gpuStack } from "../../webgpu/gpu-stack.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, floatDType, floatOperand, unitAlias, widestUnit } from "../../webgpu/wgsl-operands.ts";
import type { MergeAttnStatesArgs } from "./index.ts";
import { MERGE_ATTN_STATES_WGSL } from "./merge-attn-states.wgsl.ts";

const PARAMS = new ParamTable(MERGE_ATTN_STATES_WGSL, [
  "rows",
  "workgroups",
  "outsFirst",
  "outsStride",
  "lsesFirst",
  "lsesStride",
  "outFirst",
  "lseFirst",
  "heads",
  "outsGap",
  "lsesGap",
]);
const THREADS = 256;
/** Units that a thread has in flight, of all states together: about so many. */
const MOST_LOADS = 8;
/** Workgroups wanted before a workgroup takes several rows. */
const WORKGROUPS_WANTED = 1024;
const FLOATS_IN_WORKGROUP_MEMORY = 4096;

/** Records mergeAttnStates. `args` have been checked. */
export function recordMergeAttnStates(recorder: Recorder, args: MergeAttnStatesArgs): void {
  const { outs, lses, base = "e", nonFinite = "original", out, lse } = args;
  const [first] = outs;
  if (first === undefined) return;
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
  const lseRegion = lse === undefined ? undefined : recorder.write(lse);
  const offsets = [headDim, outsStack.region.first, outsStack.stride, outsGap, outRegion.first];
  const [from, to] = [floatDType(first.dtype), floatDType(out.dtype)];
  const unit = widestUnit([from, to], offsets);
  const rowUnits = headDim / unit;
  const mostLoads = Math.max(1, Math.floor(MOST_LOADS / states));
  const rowsPerWorkgroup = chooseRows(rows, rowUnits, states, mostLoads);
  const loads = Math.max(1, Math.min(mostLoads, Math.ceil((rowsPerWorkgroup * rowUnits) / THREADS)));
  const hasGaps = outsGap !== 0 || lsesGap !== 0;
  const constants = {
    THREADS,
    ROWS: rowsPerWorkgroup,
    ROW_UNITS: rowUnits,
    STATES: states,
    LOADS: loads,
    FETCHED: loads * states,
    BASE_2: base === "2",
    PROPAGATE: nonFinite === "propagate",
    GAPS: hasGaps,
  };
  const writesLse = lseRegion !== undefined;
  const kernel = recorder.kernel({
    key:
      `merge-attn-states ${from}->${to} D${headDim} N${states} unit${unit} rows${rowsPerWorkgroup} base${base} ` +
      `${nonFinite}${hasGaps ? " gaps" : ""}${writesLse ? " lse" : ""}`,
    entryPoint: "merge_attn_states",
    bindings: ["uniform", "read", "read", "write", ...(writesLse ? (["write"] as const) : [])],
    wgsl: () =>
      assembleWgsl(MERGE_ATTN_STATES_WGSL, constants, [
        unitAlias(unit),
        floatOperand("outs", 2, from, unit, "read"),
        floatOperand("out", 3, to, unit, "write"),
        writesLse ? LSE_WRITTEN : LSE_DROPPED,
      ]),
  });
  const workgroups = Math.ceil(rows / rowsPerWorkgroup);
  const params = recorder.uniform(
    PARAMS.pack({
      rows,
      workgroups,
      outsFirst: outsStack.region.first / unit,
      outsStride: outsStack.stride / unit,
      lsesFirst: lsesStack.region.first,
      lsesStride: lsesStack.stride,
      outFirst: outRegion.first / unit,
      lseFirst: lseRegion?.first ?? 0,
      heads,
      outsGap: outsGap / unit,
      lsesGap,
    }),
  );
  const regions = [params, lsesStack.region, outsStack.region, outRegion];
  recorder.dispatch(kernel, lseRegion === undefined ? regions : [...regions, lseRegion], workgroups);
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

const LSE_WRITTEN = `@group(0) @binding(4) var<storage, read_write> lse: array<u32>;
fn write_lse(row: u32, bits: u32) { lse[params.lse_first + row] = bits; }`;
const LSE_DROPPED = "fn write_lse(row: u32, bits: u32) {}";

/** Enough rows that every thread streams a few units, as long as there are workgroups for the whole chip. */
function chooseRows(rows: number, rowUnits: number, states: number, loads: number): number {
  const streaming = (THREADS * loads) / Math.max(1, rowUnits);
  const spread = rows / WORKGROUPS_WANTED;
  const fitting = FLOATS_IN_WORKGROUP_MEMORY / states;
  return 2 ** Math.floor(Math.log2(Math.max(1, Math.min(streaming, spread, fitting, THREADS))));
}
