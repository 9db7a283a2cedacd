import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, floatDType, floatOperand, unitAlias, widestUnit } from "../../webgpu/wgsl-operands.ts";
import type { CorrectAttnOutArgs } from "./index.ts";
import { CORRECT_ATTN_OUT_WGSL } from "./correct-attn-out.wgsl.ts";

const PARAMS = new ParamTable(CORRECT_ATTN_OUT_WGSL, [
  "rows",
  "rank",
  "workgroups",
  "outFirst",
  "correctedFirst",
  "lsesFirst",
  "lseFirst",
]);
const THREADS = 256;
/** Units that a thread has in flight, at most. */
const MOST_LOADS = 4;
/** Workgroups wanted before a workgroup takes several rows. */
const WORKGROUPS_WANTED = 1024;

/** Records correctAttnOut. `args` have been checked. */
export function recordCorrectAttnOut(recorder: Recorder, args: CorrectAttnOutArgs): void {
  const { partialOut, lses, rank, base = "e", nonFinite = "original", out, lse } = args;
  for (const [name, operand] of Object.entries({ partialOut, lses, out, lse })) {
    expectContiguousOnGpu("correctAttnOut", name, operand);
  }
  const dtype = floatDType(partialOut.dtype);
  const [batch = 0, heads = 0, headDim = 0] = partialOut.shape;
  const rows = batch * heads;
  const inPlace = sharesBytes(partialOut, out);
  const lsesRegion = recorder.read(lses);
  const lseRegion = recorder.write(lse);
  const partialRegion = inPlace ? undefined : recorder.read(partialOut);
  const outRegion = recorder.write(out);
  const offsets = [headDim, outRegion.first, partialRegion?.first ?? 0];
  const unit = widestUnit([dtype], offsets);
  const rowUnits = headDim / unit;
  const rowsPerWorkgroup = chooseRows(rows, rowUnits);
  const ranks = lses.shape[0] ?? 0;
  const constants = {
    THREADS,
    ROWS: rowsPerWorkgroup,
    ROW_UNITS: rowUnits,
    LOADS: Math.max(1, Math.min(MOST_LOADS, Math.ceil((rowsPerWorkgroup * rowUnits) / THREADS))),
    RANKS: ranks,
    BASE_2: base === "2",
    PROPAGATE: nonFinite === "propagate",
  };
  const kernel = recorder.kernel({
    key:
      `correct-attn-out ${dtype} N${ranks} D${headDim} unit${unit} rows${rowsPerWorkgroup} base${base} ` +
      `${nonFinite}${inPlace ? " in place" : ""}`,
    entryPoint: "correct_attn_out",
    bindings: inPlace ? ["uniform", "read", "write", "update"] : ["uniform", "read", "write", "write", "read"],
    wgsl: () =>
      assembleWgsl(CORRECT_ATTN_OUT_WGSL, constants, [
        unitAlias(unit),
        ...(inPlace
          ? [floatOperand("corrected", 3, dtype, unit, "update"), IN_PLACE]
          : [floatOperand("corrected", 3, dtype, unit, "write"), floatOperand("out", 4, dtype, unit, "read")]),
      ]),
  });
  const workgroups = Math.ceil(rows / rowsPerWorkgroup);
  const first = (partialRegion ?? outRegion).first / unit;
  const params = recorder.uniform(
    PARAMS.pack({
      rows,
      rank,
      workgroups,
      outFirst: first,
      correctedFirst: outRegion.first / unit,
      lsesFirst: lsesRegion.first,
      lseFirst: lseRegion.first,
    }),
  );
  const regions = [params, lsesRegion, lseRegion, outRegion];
  recorder.dispatch(kernel, partialRegion === undefined ? regions : [...regions, partialRegion], workgroups);
}

const IN_PLACE = `alias Fetched_out = Fetched_corrected;
fn fetch_out(i: u32) -> Fetched_out { return fetch_corrected(i); }
fn decoded_out(fetched: Fetched_out) -> Unit { return decoded_corrected(fetched); }`;

/** Enough rows that every thread streams a few units, as long as there are workgroups for the whole chip. */
function chooseRows(rows: number, rowUnits: number): number {
  const streaming = (THREADS * MOST_LOADS) / Math.max(1, rowUnits);
  const spread = rows / WORKGROUPS_WANTED;
  return 2 ** Math.floor(Math.log2(Math.max(1, Math.min(streaming, spread, THREADS))));
}

/** True when both are the same GPU memory: WebGPU then wants one binding for both. */
function sharesBytes(partialOut: Operand, out: Operand): boolean {
  return (
    partialOut.place === "device" &&
    out.place === "device" &&
    partialOut.memory === out.memory &&
    partialOut.elementOffset === out.elementOffset
  );
}
