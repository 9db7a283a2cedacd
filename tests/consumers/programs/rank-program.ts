// What every rank of a consumer's world runs, in every runtime: all collectives and some steps of attention over
// seeded numbers, whose bits are the same wherever they are computed by WebAssembly.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";

/** Options of the program. */
export interface ProgramOptions {
  readonly backend: "wasm" | "webgpu";
}

const HEADS = 8;
const KV_HEADS = 2;
const HEAD_DIM = 32;

export async function setup(context: RankContext, { backend: name }: ProgramOptions) {
  const { heap, rank, size, world, group, onClose } = context;
  const backend = await openBackend(name, { heap, ...(name === "webgpu" ? { adapter: "any" } : {}) });
  onClose(() => backend.close());
  const attention = DcpAttention.open({
    backend,
    heap,
    dcpGroup: world,
    layers: 1,
    queryHeads: HEADS,
    kvHeads: KV_HEADS,
    headDim: HEAD_DIM,
    kvDtype: "f32",
    blockSize: 4,
    numBlocks: 16,
    combine: "one-shot",
  });
  const sequence = attention.createSequence();
  const seeded = (seed: number, shape: readonly number[]): Tensor =>
    Tensor.from(heap, "f32", shape, numbers(seed, shape));

  return {
    /** A hash of what all collectives leave on this rank. */
    async collectives(): Promise<string> {
      const own = seeded(rank + 1, [size * 3, 5]);
      const chunk = seeded(rank + 11, [3, 5]);
      const results: Tensor[] = [];
      const result = (shape: readonly number[]): Tensor => {
        const tensor = Tensor.zeros(heap, "f32", shape);
        results.push(tensor);
        return tensor;
      };
      world.allGather(chunk, result([size * 3, 5]));
      world.allGatherCoalesced([chunk, chunk], [result([size * 3, 5]), result([size * 3, 5])]);
      world.allReduce(own, result([size * 3, 5]));
      world.reduceScatter(own, result([3, 5]));
      const all = Array.from({ length: size });
      world.allToAll(
        all.map((_, to) => seeded(100 * rank + to, [2])),
        all.map(() => result([2])),
      );
      const given = result([4]);
      if (rank === 1) given.fill(0.1);
      world.broadcast(given, 1);
      world.sendRecv(chunk, (rank + 1) % size, result([3, 5]), (rank + size - 1) % size);
      const pair = group("pair");
      await pair.async.allReduce(chunk, result([3, 5]));
      world.agree("consumer", { heads: HEADS });
      world.readPeers([chunk], (peers) => {
        result([1]).fill(peers.reduce((sum, [tensor]) => sum + (tensor?.at(0, 0) ?? Number.NaN), 0));
      });
      await world.async.barrier();
      return hash(results);
    },
    /** This rank's heads of the attention of one more token; every rank brings the same keys and values. */
    async attend(token: number): Promise<number[]> {
      const shape = [1, HEADS / size, HEAD_DIM];
      const out = Tensor.zeros(heap, "f32", shape);
      const [key, value] = [
        seeded(7 * token + 1, [1, KV_HEADS, HEAD_DIM]),
        seeded(7 * token + 2, [1, KV_HEADS, HEAD_DIM]),
      ];
      attention.beginStep([{ sequence, tokens: 1 }]);
      await attention.forward(0, seeded(7 * token + 3 + rank, shape), key, value, out);
      attention.endStep();
      return [...out.toNumbers()];
    },
  };
}

/** Numbers in [-1, 1) of a linear congruential generator: the same in every engine. */
function numbers(seed: number, shape: readonly number[]): number[] {
  let state = (seed * 2654435761) >>> 0;
  const count = shape.reduce((product, size) => product * size, 1);
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround(state / 2 ** 31 - 1);
  });
}

/** FNV-1a of the tensors' bytes. */
function hash(tensors: readonly Tensor[]): string {
  let state = 0x811c9dc5;
  for (const tensor of tensors) {
    for (const byte of tensor.bytes) state = Math.imul(state ^ byte, 0x01000193) >>> 0;
  }
  return state.toString(16).padStart(8, "0");
}
