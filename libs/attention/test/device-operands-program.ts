// The rank's side of the tests of operands on a GPU: the same steps over heap tensors and over tensors of the GPU.
import { DcpAttention, NonFiniteKeyValue } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import type { Operand } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { countCalls } from "../../kernels/src/testing/count-calls.ts";
import { RandomStream } from "../../../tests/random.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

/** What a step's attention is made for. */
export interface DeviceCase {
  readonly kvDtype: DType;
  readonly queryDtype?: DType;
  readonly outDtype?: DType;
  readonly withLse?: boolean;
  readonly lseBase?: "e" | "2";
  readonly prefillChunk?: number;
}

const [LAYERS, HEADS, KV_HEADS, DIM] = [5, 4, 2, 8];
/** Tokens of two sequences, step after step. */
const STEPS = [
  [9, 4],
  [1, 1],
  [2, 1],
] as const;

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world } = context;
  const backend = await openTestBackend(context, options.backend);
  const own = headRange(HEADS, world.rank, world.size);

  const open = ({ kvDtype, queryDtype = "f32", lseBase = "e", prefillChunk }: DeviceCase): DcpAttention =>
    DcpAttention.open({
      backend,
      heap,
      dcpGroup: world,
      layers: LAYERS,
      queryHeads: HEADS,
      kvHeads: KV_HEADS,
      headDim: DIM,
      kvDtype,
      queryDtype,
      lseBase,
      blockSize: 4,
      numBlocks: 16,
      window: [null, 5, null, 5, null],
      combine: "a2a",
      ...(prefillChunk === undefined ? {} : { prefillChunk }),
    });

  /**
   * Outputs and LSEs of all layers of all steps, and how often the last step mapped memory before its results were
   * asked for.
   */
  async function run(test: DeviceCase, onGpu: boolean): Promise<{ bytes: Uint8Array[]; maps: number }> {
    const { queryDtype = "f32", outDtype = "f32", withLse = false, prefillChunk } = test;
    using attention = closing(open(test));
    const sequences = STEPS[0].map(() => attention.it.createSequence());
    const random = new RandomStream(7);
    const owned: Operand[] = [];
    const place = (tensor: Tensor): Operand => {
      owned.push(tensor);
      if (!onGpu) return tensor;
      const gpu = backend.empty(tensor.dtype, tensor.shape);
      owned.push(gpu);
      void backend.upload(tensor, gpu);
      return gpu;
    };
    const rows = (dtype: DType, tokens: number, heads: number, { start, end } = { start: 0, end: heads }): Tensor => {
      const all = Tensor.from(heap, dtype, [tokens, heads, DIM], random.normals(tokens * heads * DIM));
      const some = all.slice(1, start, end).clone(heap);
      all.free();
      return some;
    };
    const bytes: Uint8Array[] = [];
    let maps = 0;
    for (const step of STEPS) {
      const tokens = step[0] + step[1];
      const inputs = Array.from({ length: LAYERS }, () => ({
        query: place(rows(queryDtype, tokens, HEADS, own)),
        key: place(rows("f32", tokens, KV_HEADS)),
        value: place(rows("f32", tokens, KV_HEADS)),
        out: place(Tensor.empty(heap, outDtype, [tokens, own.count, DIM]).fill(Number.NaN)),
        lse: withLse ? place(Tensor.empty(heap, "f32", [tokens, own.count]).fill(Number.NaN)) : undefined,
      }));
      const items = sequences.map((sequence, index) => ({ sequence, tokens: step[index] ?? 0 }));
      const counts = await countCalls(async () => {
        if (prefillChunk === undefined) attention.it.beginStep(items);
        else attention.it.beginPrefill(items);
        for (const [layer, { query, key, value, out, lse }] of inputs.entries()) {
          if (prefillChunk === undefined) await attention.it.forward(layer, query, key, value, out, lse);
          else await attention.it.prefill(layer, query, key, value, out, lse);
        }
        attention.it.endStep();
      });
      maps = counts.mapAsync;
      for (const { out, lse } of inputs) {
        for (const result of lse === undefined ? [out] : [out, lse]) bytes.push(await bytesOf(result));
      }
    }
    for (const operand of owned) operand.free();
    return { bytes, maps };
  }

  async function bytesOf(operand: Operand): Promise<Uint8Array> {
    const copy = Tensor.empty(heap, operand.dtype, operand.shape);
    await backend.download(operand, copy);
    const bytes = copy.bytes.slice();
    copy.free();
    return bytes;
  }

  return {
    /** Whether operands on the GPU give the bits of heap tensors, and maps of the last step of either. */
    async compare(
      test: DeviceCase,
    ): Promise<{ same: boolean; results: number; maps: readonly [heap: number, gpu: number] }> {
      const before = heap.usedBytes;
      const [fromHeap, fromGpu] = [await run(test, false), await run(test, true)];
      const same = fromHeap.bytes.every(
        (bytes, at) => Buffer.compare(bytes, fromGpu.bytes[at] ?? bytes.slice(1)) === 0,
      );
      // What ranks tell the owner of a shared device lies in memory that grows.
      if (world.size === 1 && heap.usedBytes !== before)
        throw new Error(`${heap.usedBytes - before} bytes of the heap are lost`);
      return { same, results: fromGpu.bytes.length, maps: [fromHeap.maps, fromGpu.maps] };
    },
    /** What an int8 cache says of keys on the GPU that it cannot store. */
    async refuse(): Promise<string> {
      using attention = closing(open({ kvDtype: "i8" }));
      const sequence = attention.it.createSequence();
      attention.it.beginStep([{ sequence, tokens: 1 }]);
      const heapRows = Tensor.empty(heap, "f32", [1, KV_HEADS, DIM]).fill(Number.NaN);
      const rows = backend.empty("f32", heapRows.shape);
      void backend.upload(heapRows, rows);
      const said = await attention.it.write(0, rows, rows).then(
        () => "nothing",
        (error: unknown) => (error instanceof NonFiniteKeyValue ? error._tag : `${error}`),
      );
      let ended = "well";
      try {
        attention.it.endStep();
      } catch (error) {
        ended = error instanceof NonFiniteKeyValue ? error._tag : `${error}`;
      }
      rows.free();
      heapRows.free();
      return `${said}, ${ended}, ${attention.it.sequenceLength(sequence)} tokens`;
    },
  };
}

/** Closed at the end of its block. */
function closing<T extends { close(): void }>(it: T): { readonly it: T } & Disposable {
  return { it, [Symbol.dispose]: () => it.close() };
}
