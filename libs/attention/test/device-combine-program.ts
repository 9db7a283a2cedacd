// The rank's side of the tests of combines on the GPU: decode steps whose results stay there or come to the heap.
import { DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import type { Operand } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { type CrossedBytes, countBytes } from "../../kernels/src/testing/count-bytes.ts";
import { type CallCounts, countCalls } from "../../kernels/src/testing/count-calls.ts";
import { countDispatches } from "../../kernels/src/testing/count-dispatches.ts";
import { RandomStream } from "../../../tests/random.ts";
import { SLICING } from "../src/combine/row-slices.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

/** A decode step of one layer. */
export interface CombineCase {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly partialDtype: DType;
  readonly outDtype: DType;
  readonly withLse: boolean;
  readonly combine: "a2a" | "one-shot" | "auto";
  /** Default: that of the queries. */
  readonly gatherDtype?: "f8e4m3";
  /** Every rank brings the queries of all heads. Default: its own. */
  readonly queryReplicated?: boolean;
  /** Default: whatever the options' default is. */
  readonly overlap?: "on" | "off";
  /** Least bytes of a slice of a step. Default: that of steps outside of tests. */
  readonly sliceBytes?: number;
}

/** Where operands lie. "GPU, strided": a rank's heads of a tensor of all heads. */
export type Place = "heap" | "GPU" | "GPU, strided";

/** What a rank got, and what its last step took once others had run. */
export interface CombineResult {
  readonly out: Uint8Array;
  readonly lse: Uint8Array;
  readonly values: number[];
  /** Outputs of steps that follow each other, of other queries each. */
  readonly followed: number[];
  readonly calls: CallCounts;
  readonly bytes: CrossedBytes;
  /** On this thread. */
  readonly dispatches: number;
  /** Layers' attentions that were cut in halves. */
  readonly overlapped: number;
}

const TOKENS = 9;
const WARM_UP_STEPS = 4;
const LEAST_SLICE_BYTES = SLICING.leastBytes;
const FOLLOWING = 3;

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world } = context;
  const backend = await openTestBackend(context, options.backend);
  const heapBytes = heap.usedBytes;

  return {
    /** Runs the steps with the query at one place and the results at another. */
    async run(of: CombineCase, queryPlace: Place, resultPlace: Place): Promise<CombineResult> {
      const {
        batch,
        heads,
        kvHeads,
        dim,
        partialDtype,
        outDtype,
        withLse,
        combine,
        gatherDtype = outDtype,
        queryReplicated = false,
        overlap,
        sliceBytes = LEAST_SLICE_BYTES,
      } = of;
      SLICING.leastBytes = sliceBytes;
      const own = headRange(heads, world.rank, world.size);
      const attention = DcpAttention.open({
        backend,
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: heads,
        kvHeads,
        headDim: dim,
        kvDtype: "f32",
        queryDtype: outDtype,
        gatherDtype,
        partialDtype,
        blockSize: 4,
        numBlocks: batch * TOKENS,
        combine,
        queryReplicated,
        ...(overlap === undefined ? {} : { overlap }),
      });
      const random = new RandomStream(11);
      const used: Operand[] = [];
      const kept = <T extends Operand>(operand: T): T => {
        used.push(operand);
        return operand;
      };
      const placed = (tensor: Tensor, place: Place): Operand => {
        if (place === "heap") return tensor;
        const gpu = kept(backend.empty(tensor.dtype, tensor.shape));
        void backend.upload(tensor, gpu);
        return gpu;
      };
      const rows = (tokens: number, count: number): Tensor =>
        kept(Tensor.from(heap, outDtype, [tokens, count, dim], random.normals(tokens * count * dim)));
      const heapOut = kept(Tensor.empty(heap, outDtype, [batch, own.count, dim]).fill(Number.NaN));
      const heapLse = kept(Tensor.empty(heap, "f32", [batch, own.count]).fill(Number.NaN));
      try {
        const sequences = Array.from({ length: batch }, () => attention.createSequence());
        for (const [index, sequence] of sequences.entries()) {
          // The second has no token: nobody holds anything for it.
          const tokens = index === 1 ? 0 : 1 + ((index * 5) % TOKENS);
          attention.beginStep([{ sequence, tokens, queries: 0 }]);
          await attention.write(0, rows(tokens, kvHeads), rows(tokens, kvHeads));
          attention.endStep();
        }
        const start = queryReplicated ? 0 : own.start;
        const end = queryReplicated ? heads : own.end;
        const queries = Array.from({ length: FOLLOWING }, () => {
          const all = rows(batch, heads);
          if (queryPlace === "GPU, strided") return placed(all, queryPlace).slice(1, start, end);
          return placed(kept(all.slice(1, start, end).clone(heap)), queryPlace);
        });
        const [query = heapOut] = queries;
        const out = placed(heapOut, resultPlace);
        const lse = withLse ? placed(heapLse, resultPlace) : undefined;
        attention.beginStep(sequences.map((sequence) => ({ sequence, tokens: 0, queries: 1 })));
        const step = (): Promise<void> => attention.attend(0, query, out, lse);
        for (let warm = 0; warm < WARM_UP_STEPS; warm++) await step();
        const calls = await countCalls(step);
        const bytes = await countBytes(step);
        const dispatches = await countDispatches(step);
        // Others follow, of which none waits for the one before where results stay on the GPU.
        const heapOuts = queries.map(() => kept(Tensor.empty(heap, outDtype, heapOut.shape)));
        const outs = heapOuts.map((to) => placed(to, resultPlace));
        for (const [at, next] of queries.entries()) await attention.attend(0, next, outs[at] ?? out);
        attention.endStep();
        const followed: number[] = [];
        for (const [at, to] of heapOuts.entries()) {
          await backend.download(outs[at] ?? out, to);
          followed.push(...to.toNumbers());
        }
        await backend.download(out, heapOut);
        if (lse !== undefined) await backend.download(lse, heapLse);
        const values = [...heapOut.toNumbers()];
        const { overlapped } = attention.metrics;
        const [outBits, lseBits] = [heapOut.bytes.slice(), heapLse.bytes.slice()];
        return { out: outBits, lse: lseBits, values, followed, calls, bytes, dispatches, overlapped };
      } finally {
        attention.close();
        for (const operand of used) operand.free();
      }
    },

    /** Bytes of the heap that steps have not given back. */
    lost: () => heap.usedBytes - heapBytes,
  };
}
