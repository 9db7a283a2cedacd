import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { Completion, KernelBackend } from "../backends/backend.ts";
import { openReferenceBackend } from "../backends/reference-backend.ts";
import { ATTENTION_BOUNDS_CASES } from "../ops/attention-bounds/cases.ts";
import { CORRECT_ATTN_OUT_CASES } from "../ops/correct-attn-out/cases.ts";
import { FINISH_LATTICE_CASES } from "../ops/finish-lattice/cases.ts";
import { GATHER_KV_CACHE_CASES } from "../ops/gather-kv-cache/cases.ts";
import { LATTICE_SUMS_CASES } from "../ops/lattice-sums/cases.ts";
import { MERGE_ATTN_STATES_CASES } from "../ops/merge-attn-states/cases.ts";
import { type OfEveryOp, type OpArguments, type OpName, opResults } from "../ops/op-table.ts";
import { PACK_SEQ_CASES } from "../ops/pack-seq/cases.ts";
import { PARTIAL_ATTENTION_CASES } from "../ops/partial-attention/cases.ts";
import { UNPACK_SEQ_CASES } from "../ops/unpack-seq/cases.ts";
import { WRITE_KV_CACHE_CASES } from "../ops/write-kv-cache/cases.ts";
import { type OpCase, testCases } from "./op-case.ts";

/** Something that runs an op over heap tensors, by way of something else. */
export type RunOp = <Name extends OpName>(backend: KernelBackend, name: Name, args: OpArguments[Name]) => Completion;

/** Lower words of sums begin at random: an exponential that is off in its last bits makes no carry of them. */
const NEAR_WORDS = { absolute: 1024, relative: 0 };

/**
 * Declares a test of every row of every op's case table, run by `run`. Of attention, whose kernels software Vulkan
 * compiles for minutes, of some rows: the tests beside the ops have more of them.
 */
export function testEveryOp(heap: SharedHeap, backend: KernelBackend, run: RunOp): void {
  const reference: OfEveryOp<Completion> = openReferenceBackend({ heap });
  const testOp = <Name extends OpName>(name: Name, cases: readonly OpCase<OpArguments[Name]>[]): void =>
    testCases(heap, [backend], {
      name,
      cases,
      outputs: (args) =>
        opResults(name, args).flatMap((operand, index) =>
          operand instanceof Tensor ? [[`result ${index}`, operand] as const] : [],
        ),
      reference: (args) => void reference[name](args),
      run: (on, args) => run(on, name, args),
    });
  testOp("correctAttnOut", CORRECT_ATTN_OUT_CASES);
  testOp("packSeq", PACK_SEQ_CASES);
  testOp("unpackSeq", UNPACK_SEQ_CASES);
  testOp("mergeAttnStates", MERGE_ATTN_STATES_CASES);
  testOp("writeKvCache", WRITE_KV_CACHE_CASES);
  testOp("gatherKvCache", GATHER_KV_CACHE_CASES);
  testOp(
    "partialAttention",
    PARTIAL_ATTENTION_CASES.filter((_, index) => index % 4 === 0),
  );
  testOp(
    "attentionBounds",
    ATTENTION_BOUNDS_CASES.filter((_, index) => index % 12 === 1),
  );
  testOp(
    "latticeSums",
    LATTICE_SUMS_CASES.filter((_, index) => index % 12 === 1).map((item) => ({ ...item, tolerance: NEAR_WORDS })),
  );
  testOp("finishLattice", FINISH_LATTICE_CASES);
}
