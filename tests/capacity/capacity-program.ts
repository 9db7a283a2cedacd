// The rank's side of the tests of capacity: a KV cache in a memory of the rank's own, filled with rows that repeat, so
// that attention over any number of them has a float64 reference at once.
import { DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { globalPosition, localLength, openBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { baseRows, type CapacityShape, keyRow, valueRow } from "./capacity-rows.ts";

const BLOCK_SIZE = 256;
/** Room besides the caches: plans, scratch memory, copies of operands. */
const SCRATCH_BYTES = 32 << 20;

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext, shape: CapacityShape) {
  const { layers, queryHeads, kvHeads, headDim, tokens } = shape;
  const numBlocks = Math.ceil(tokens / (BLOCK_SIZE * world.size)) + 1;
  const cacheBytes = layers * 2 * numBlocks * BLOCK_SIZE * kvHeads * headDim * 2;
  const ownHeap = SharedHeap.create(cacheBytes + SCRATCH_BYTES);
  const backend = await openBackend("wasm", { heap, ownHeap });
  onClose(() => backend.close());
  const attention = DcpAttention.open({
    backend,
    heap,
    dcpGroup: world,
    layers,
    queryHeads,
    kvHeads,
    headDim,
    kvDtype: "f16",
    blockSize: BLOCK_SIZE,
    numBlocks,
    maxStepQueries: 1,
  });
  onClose(() => attention.close());
  const sequence = attention.createSequence();
  const { start, end } = headRange(queryHeads, world.rank, world.size);
  const query = Tensor.from(heap, "f32", [1, queryHeads, headDim], baseRows(shape, "query").numbers);
  const ownQuery = query.slice(1, start, end).clone(heap);
  const out = Tensor.empty(heap, "f32", [1, end - start, headDim]);
  const lse = Tensor.empty(heap, "f32", [1, end - start]);

  return {
    /** Stores all tokens of every layer, each on the rank that holds it. */
    fill(): void {
      const plan = attention.beginStep([{ sequence, tokens, queries: 0 }]);
      if (plan.blockTable.shape[0] !== 1) throw new Error("one sequence has one row of blocks");
      const blocks = plan.blockTable.i32;
      const keys = baseRows(shape, "key");
      const values = baseRows(shape, "value");
      for (let layer = 0; layer < layers; layer++) {
        const [keyCache, valueCache] = [attention.keyCache(layer), attention.valueCache(layer)];
        if (keyCache.place !== "heap" || valueCache.place !== "heap") throw new Error("these caches lie on a GPU");
        const [keyBits, valueBits] = [keyCache.elements, valueCache.elements];
        for (let local = 0; local < localLength(attention.shard, tokens); local++) {
          const position = globalPosition(attention.shard, local);
          const block = blocks[Math.floor(local / BLOCK_SIZE)] ?? -1;
          const row = (block * BLOCK_SIZE + (local % BLOCK_SIZE)) * kvHeads;
          for (let head = 0; head < kvHeads; head++) {
            const at = (row + head) * headDim;
            keyBits.set(keys.row(keyRow(shape, layer, head, position)), at);
            valueBits.set(values.row(valueRow(shape, layer, head, position)), at);
          }
        }
      }
      attention.endStep();
    },

    /** Attends over all that is stored, on a layer; this rank's heads, their LSEs, and the milliseconds it took. */
    async attend(layer: number): Promise<{ out: number[]; lse: number[]; milliseconds: number }> {
      attention.beginStep([{ sequence, tokens: 0, queries: 1 }]);
      world.barrier();
      const started = performance.now();
      await attention.attend(layer, ownQuery, out, lse);
      const milliseconds = performance.now() - started;
      attention.cancelStep();
      return { out: [...out.f32], lse: [...lse.f32], milliseconds };
    },

    /** Bytes of this rank's caches, and how many of them lie in the memory that ranks share. */
    bytes(): { own: number; shared: number } {
      return { own: ownHeap.usedBytes, shared: heap.usedBytes };
    },
  };
}
