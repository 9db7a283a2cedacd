import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, floatDType, floatOperand } from "../../webgpu/wgsl-operands.ts";
import { expectBoundsOnGpu } from "../lattice-sums/bounds-on-gpu.ts";
import { LATTICE_NUMBERS_WGSL } from "../lattice-sums/lattice-numbers.wgsl.ts";
import { FINISH_LATTICE_WGSL } from "./finish-lattice.wgsl.ts";
import type { FinishLatticeArgs } from "./index.ts";

const PARAMS = new ParamTable(FINISH_LATTICE_WGSL, [
  "workgroups",
  "boundsFirst",
  "boundsStride",
  "sumsFirst",
  "outFirst",
  "lseFirst",
]);
/** On a CPU every thread costs. */
const THREADS = { cpu: 32, gpu: 128 };

/** Records finishLattice. `args` have been checked. */
export function recordFinishLattice(recorder: Recorder, args: FinishLatticeArgs): void {
  const { bounds, sums, out, lse } = args;
  for (const [name, operand] of Object.entries({ sums, out, lse })) {
    expectContiguousOnGpu("finishLattice", name, operand);
  }
  expectBoundsOnGpu("finishLattice", bounds);
  const [tokens = 0, heads = 0, valueDim = 0] = out.shape;
  const rows = tokens * heads;
  if (rows === 0) return;
  const threads = recorder.gpu.software ? THREADS.cpu : THREADS.gpu;
  const dtype = floatDType(out.dtype);
  const kernel = recorder.kernel({
    key: `finish-lattice ${dtype} Dv${valueDim} threads${threads}`,
    entryPoint: "finish_lattice",
    bindings: ["uniform", "read", "read", "write", "write"],
    wgsl: () =>
      assembleWgsl([LATTICE_NUMBERS_WGSL, FINISH_LATTICE_WGSL].join("\n"), { THREADS: threads, VALUE_DIM: valueDim }, [
        floatOperand("out", 3, dtype, 1, "write"),
      ]),
  });
  const [boundsRegion, sumsRegion] = [recorder.read(bounds), recorder.read(sums)];
  const [outRegion, lseRegion] = [recorder.write(out), recorder.write(lse)];
  const params = recorder.uniform(
    PARAMS.pack({
      workgroups: rows,
      boundsFirst: boundsRegion.first,
      boundsStride: boundsRegion.strides[0] ?? 0,
      sumsFirst: sumsRegion.first,
      outFirst: outRegion.first,
      lseFirst: lseRegion.first,
    }),
  );
  recorder.dispatch(kernel, [params, boundsRegion, sumsRegion, outRegion, lseRegion], rows);
}
