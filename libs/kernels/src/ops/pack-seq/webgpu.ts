import { DTYPE_BYTES, elementCount } from "@lockstep/tensor";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, rawOperand } from "../../webgpu/wgsl-operands.ts";
import type { PackSeqArgs } from "./index.ts";
import { padBits } from "./pad-bits.ts";
import { SEQUENCE_THREADS, sequenceBlocks, sequenceTable } from "./sequence-blocks.ts";
import { PACK_SEQ_WGSL } from "./pack-seq.wgsl.ts";

const PARAMS = new ParamTable(PACK_SEQ_WGSL, [
  "workgroups",
  "blocks",
  "rowUnits",
  "longest",
  "xFirst",
  "outFirst",
  "pad",
]);

/** Records packSeq. `args` have been checked; `padValue` is what the check returned. */
export function recordPackSeq(recorder: Recorder, args: PackSeqArgs, padValue: number): void {
  const { x, lengths, out } = args;
  expectContiguousOnGpu("packSeq", "x", x);
  expectContiguousOnGpu("packSeq", "out", out);
  const [batch = 0, longest = 0, ...rest] = out.shape;
  const xRegion = recorder.read(x);
  const outRegion = recorder.write(out);
  const blocks = sequenceBlocks(x.dtype, elementCount(rest), longest, [xRegion, outRegion], args.blockT, args.blockD);
  const { unitBytes, loads } = blocks;
  const kernel = recorder.kernel({
    key: `pack-seq ${unitBytes}B loads${loads}`,
    entryPoint: "pack_seq",
    bindings: ["uniform", "read", "read", "write"],
    wgsl: () =>
      assembleWgsl(PACK_SEQ_WGSL, { THREADS: SEQUENCE_THREADS, LOADS: loads }, [
        `alias Unit = ${unitBytes === 16 ? "vec4u" : "u32"};`,
        rawOperand("x", 2, unitBytes, "read"),
        rawOperand("out", 3, unitBytes, "write"),
      ]),
  });
  const workgroups = batch * blocks.blocks;
  const bytesPerElement = DTYPE_BYTES[x.dtype];
  const params = recorder.uniform(
    PARAMS.pack({
      workgroups,
      blocks: blocks.blocks,
      rowUnits: blocks.rowUnits,
      longest,
      xFirst: (xRegion.first * bytesPerElement) / unitBytes,
      outFirst: (outRegion.first * bytesPerElement) / unitBytes,
      pad: padBits(x.dtype, padValue) * (WORD_OF_ELEMENT[DTYPE_BYTES[x.dtype]] ?? 1),
    }),
  );
  recorder.dispatch(kernel, [params, recorder.words(sequenceTable(lengths)), xRegion, outRegion], workgroups);
}

/** Repeats an element of 1, 2 or 4 bytes to fill a word. */
const WORD_OF_ELEMENT: Readonly<Record<number, number>> = { 1: 0x1010101, 2: 0x10001, 4: 1 };
