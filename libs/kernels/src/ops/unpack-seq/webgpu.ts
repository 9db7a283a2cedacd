import { DTYPE_BYTES, elementCount } from "@lockstep/tensor";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, rawOperand } from "../../webgpu/wgsl-operands.ts";
import { SEQUENCE_THREADS, sequenceBlocks, sequenceTable } from "../pack-seq/sequence-blocks.ts";
import type { UnpackSeqArgs } from "./index.ts";
import { UNPACK_SEQ_WGSL } from "./unpack-seq.wgsl.ts";

const PARAMS = new ParamTable(UNPACK_SEQ_WGSL, [
  "workgroups",
  "blocks",
  "rowUnits",
  "longest",
  "packedFirst",
  "outFirst",
]);

/** Records unpackSeq. `args` have been checked. */
export function recordUnpackSeq(recorder: Recorder, args: UnpackSeqArgs): void {
  const { packed, lengths, out } = args;
  expectContiguousOnGpu("unpackSeq", "packed", packed);
  expectContiguousOnGpu("unpackSeq", "out", out);
  const [batch = 0, longest = 0, ...rest] = packed.shape;
  const packedRegion = recorder.read(packed);
  const outRegion = recorder.write(out);
  const regions = [packedRegion, outRegion];
  const blocks = sequenceBlocks(packed.dtype, elementCount(rest), longest, regions, args.blockT, args.blockD);
  const { unitBytes, loads } = blocks;
  const kernel = recorder.kernel({
    key: `unpack-seq ${unitBytes}B loads${loads}`,
    entryPoint: "unpack_seq",
    bindings: ["uniform", "read", "read", "write"],
    wgsl: () =>
      assembleWgsl(UNPACK_SEQ_WGSL, { THREADS: SEQUENCE_THREADS, LOADS: loads }, [
        `alias Unit = ${unitBytes === 16 ? "vec4u" : "u32"};`,
        rawOperand("packed", 2, unitBytes, "read"),
        rawOperand("out", 3, unitBytes, "write"),
      ]),
  });
  const workgroups = batch * blocks.blocks;
  const bytesPerElement = DTYPE_BYTES[packed.dtype];
  const params = recorder.uniform(
    PARAMS.pack({
      workgroups,
      blocks: blocks.blocks,
      rowUnits: blocks.rowUnits,
      longest,
      packedFirst: (packedRegion.first * bytesPerElement) / unitBytes,
      outFirst: (outRegion.first * bytesPerElement) / unitBytes,
    }),
  );
  recorder.dispatch(kernel, [params, recorder.words(sequenceTable(lengths)), packedRegion, outRegion], workgroups);
}
