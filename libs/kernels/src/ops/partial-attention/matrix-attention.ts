import type { GpuDevice } from "../../device/gpu-device.ts";
import type { CompiledKernel, KernelSource } from "../../webgpu/compiled-kernel.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl } from "../../webgpu/wgsl-operands.ts";
import { queryOperand } from "./kv-operand.ts";
import {
  type MatrixAttentionProblem,
  type MatrixAttentionShape,
  matrixAttentionShape,
  matrixLayout,
  matrixWorkgroupsWanted,
} from "./matrix-attention-shape.ts";
import { separateMatrices } from "./separate-matrices.ts";
import type { MatrixUnits } from "../../device/matrix-units.ts";
import { matrixDirectives, matrixOperations } from "./subgroup-matrix.ts";
import { ATTENTION_PARAMS_WGSL, ATTENTION_RESULTS_WGSL } from "./attention-params.wgsl.ts";
import { MATRIX_ATTENTION_MEMORY_WGSL } from "./matrix-attention-memory.wgsl.ts";
import { MATRIX_ATTENTION_WGSL } from "./matrix-attention.wgsl.ts";

const SOURCE = [
  ATTENTION_PARAMS_WGSL,
  ATTENTION_RESULTS_WGSL,
  MATRIX_ATTENTION_MEMORY_WGSL,
  MATRIX_ATTENTION_WGSL,
].join("\n");

/** A kernel that fits a problem. */
export interface MatrixAttention {
  readonly units: MatrixUnits;
  readonly problem: MatrixAttentionProblem;
  readonly shape: MatrixAttentionShape;
  /** Query heads that a workgroup holds. */
  readonly mostRows: number;
  readonly workgroupsWanted: number;
}

/** See matrixAttentionShape; undefined also where the device has no matrix units. */
export function chooseMatrixAttention(
  gpu: GpuDevice,
  problem: MatrixAttentionProblem,
  keysInAll: number,
): MatrixAttention | undefined {
  const { matrixUnits, device } = gpu;
  if (matrixUnits === undefined) return undefined;
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = device.limits;
  const limits = { storageBytes: maxComputeWorkgroupStorageSize, threads: maxComputeInvocationsPerWorkgroup };
  // Tests want it wherever it fits.
  const keys = matrixUnits === "emulated" ? Number.POSITIVE_INFINITY : keysInAll;
  const shape = matrixAttentionShape(problem, keys, limits);
  if (shape === undefined) return undefined;
  const mostRows = shape.rowTiles * shape.tileRows;
  return { units: matrixUnits, problem, shape, mostRows, workgroupsWanted: matrixWorkgroupsWanted(problem, shape) };
}

/** The kernel; its bindings are those of partial-attention.wgsl, without the values if they are shared. */
export function matrixAttentionKernel(recorder: Recorder, chosen: MatrixAttention, split: boolean): CompiledKernel {
  return recorder.kernel(matrixAttentionSource(chosen.units, chosen.problem, chosen.shape, split));
}

/** The source of that kernel. `split`: write partial results. */
export function matrixAttentionSource(
  units: MatrixUnits,
  problem: MatrixAttentionProblem,
  shape: MatrixAttentionShape,
  split: boolean,
): KernelSource {
  const { keyDim, valueDim, queryDType, queryUnit, blockSize, softcap, sharedValues } = problem;
  const sinks = problem.sinks && !split;
  const { constants, sizes } = matrixLayout(problem, shape);
  const { subgroups, kGroups, rowTiles, tileRows, keys, buffers, tilesAhead } = shape;
  const flags = [
    split ? "split" : "",
    softcap ? "softcap" : "",
    sinks ? "sinks" : "",
    sharedValues ? "shared values" : "",
    queryUnit === 4 ? "" : "unaligned query",
  ].filter((flag) => flag !== "");
  return {
    key: [
      `matrix-attention ${units} q ${queryDType} Dk${keyDim} Dv${valueDim} bs${blockSize} subgroups${subgroups}`,
      `kgroups${kGroups} rows${rowTiles}x${tileRows} keys${keys} buffers${buffers} ahead${tilesAhead}`,
      ...flags,
    ].join(" "),
    entryPoint: "matrix_attention",
    bindings: ["uniform", "read", "write", "write", "read", "read", ...(sharedValues ? [] : (["read"] as const))],
    wgsl: () =>
      separateMatrices(
        assembleWgsl(
          SOURCE,
          { ...constants, SHARED: sharedValues, SPLIT: split, SOFTCAP: softcap, SINKS: sinks },
          [queryOperand(4, queryDType, queryUnit), matrixOperations(units, sizes)],
          matrixDirectives(units),
        ),
        constants,
      ),
  };
}
