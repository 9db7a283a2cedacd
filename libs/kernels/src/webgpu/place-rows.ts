import { ParamTable } from "./param-table.ts";
import { PLACE_ROWS_WGSL } from "./place-rows.wgsl.ts";
import type { CompiledKernel, KernelSource } from "./compiled-kernel.ts";
import type { Region } from "./region.ts";
import { assembleWgsl, type RawBytes, rawOperand } from "./wgsl-operands.ts";

const PARAMS = new ParamTable(PLACE_ROWS_WGSL, [
  "workgroups",
  "units",
  "rowUnits",
  "fromFirst",
  "fromStride",
  "toFirst",
  "toStride",
]);
const THREADS = 256;
const LOADS = 4;

/** What of a recorder copies of rows take. */
export interface RowRecorder {
  kernel(source: KernelSource): CompiledKernel;
  uniform(values: ArrayLike<number>): Region;
  dispatch(kernel: CompiledKernel, regions: readonly Region[], workgroups: number): void;
}

/** Rows in a region, in bytes from its start. */
export interface RowsInRegion {
  readonly region: Region;
  readonly first: number;
  /** From the start of one row to that of the next. */
  readonly stride: number;
}

/** Records a copy of `rows` rows of `rowBytes` bytes, a multiple of `width`, each from one region to another. */
export function placeRows(
  recorder: RowRecorder,
  from: RowsInRegion,
  to: RowsInRegion,
  rows: number,
  rowBytes: number,
  width: number,
): void {
  const places = [rowBytes, from.first, from.stride, to.first, to.stride];
  const unitBytes = UNITS.find((bytes) => places.every((place) => place % bytes === 0)) ?? 1;
  if (unitBytes < width && unitBytes < 4) throw new RangeError(`rows of elements of ${width} bytes lie askew`);
  const kernel = recorder.kernel({
    key: `place-rows ${unitBytes}B`,
    entryPoint: "place_rows",
    bindings: ["uniform", "read", "write"],
    wgsl: () =>
      assembleWgsl(PLACE_ROWS_WGSL, { THREADS, LOADS }, [
        `alias Unit = ${unitBytes === 16 ? "vec4u" : "u32"};`,
        rawOperand("from", 1, unitBytes, "read"),
        rawOperand("to", 2, unitBytes, "write"),
      ]),
  });
  const units = (rows * rowBytes) / unitBytes;
  const workgroups = Math.ceil(units / (LOADS * THREADS));
  const params = recorder.uniform(
    PARAMS.pack({
      workgroups,
      units,
      rowUnits: rowBytes / unitBytes,
      fromFirst: from.first / unitBytes,
      fromStride: from.stride / unitBytes,
      toFirst: to.first / unitBytes,
      toStride: to.stride / unitBytes,
    }),
  );
  recorder.dispatch(kernel, [params, from.region, to.region], workgroups);
}

const UNITS: readonly RawBytes[] = [16, 4, 2, 1];
