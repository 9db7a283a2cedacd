// The rank's side of the tests of a shared device: ops alone, in batches, wrong ones, and ranks that do not come.
import type { RankContext } from "@lockstep/dist-groups";
import { GpuTensor, type KernelBackend, type Operand } from "@lockstep/kernels";
import { type DType, LockstepError, SharedHeap, Tensor } from "@lockstep/tensor";
import { type CallCounts, countCalls } from "../../kernels/src/testing/count-calls.ts";
import { openSharedBackend, type SharedBackendOptions } from "../src/shared-backend.ts";

/** What became of a call: the tag and words of what it threw, "none" for nothing. */
export interface Outcome {
  readonly tag: string;
  readonly message: string;
}

/** Called by the world on every rank. */
export async function setup(
  { heap, world, rank, onClose }: RankContext,
  {
    ofRanks = [],
    isFar = false,
    ...options
  }: { index?: number; ofRanks?: readonly Partial<SharedBackendOptions>[]; isFar?: boolean },
) {
  const own = ofRanks[rank] ?? {};
  const backend = await openSharedBackend({ heap, group: world, adapter: "software", ...options, ...own });
  onClose(() => backend.close());

  /** Where operands lie: in memory that the owner of the device reaches or, far, in the rank's own. */
  const operands = isFar ? SharedHeap.create(1 << 20) : heap;

  async function outcome(run: () => unknown): Promise<Outcome> {
    try {
      await run();
    } catch (error) {
      return { tag: error instanceof LockstepError ? error._tag : "unknown", message: String(error) };
    }
    return { tag: "none", message: "" };
  }

  const numbers = (count: number): number[] => Array.from({ length: count }, (_, at) => (at * 7 + rank * 13) % 101);

  function onGpu(dtype: DType, shape: readonly number[], values: readonly number[]): Operand {
    const source = Tensor.from(operands, dtype, shape, values);
    const target = backend.empty(dtype, shape);
    void backend.upload(source, target);
    // What was uploaded is what it was then.
    source.fill(99);
    source.free();
    return target;
  }

  async function read(operand: Operand): Promise<number[]> {
    const tensor = Tensor.empty(operands, operand.dtype, operand.shape);
    await backend.download(operand, tensor);
    const values = [...tensor.toNumbers()];
    tensor.free();
    return values;
  }

  function pack(x: Operand, out: Tensor): ReturnType<KernelBackend["packSeq"]> {
    return backend.packSeq({ x, lengths: [2, 1], out });
  }

  return {
    device: () => backend.device,

    /** Up, a part replaced, and down again; each rank with numbers of its own. */
    async roundTrip(dtype: DType, count: number) {
      const used = heap.usedBytes;
      const whole = onGpu(dtype, [count], numbers(count));
      const part = Tensor.from(operands, dtype, [1], [50]);
      if (count > 2) await backend.upload(part, whole.slice(0, count - 2, count - 1));
      part.free();
      const values = await read(whole);
      const expected = numbers(count);
      if (count > 2) expected[count - 2] = 50;
      whole.free();
      return { values, expected, leaked: heap.usedBytes - used };
    },

    /** Rows, a pad and the LSE's -inf through an op with every kind of argument. */
    async pack(padValue: number) {
      const x = onGpu("f32", [3, 2], numbers(6));
      const out = Tensor.empty(operands, "f32", [2, 2, 2]);
      await backend.packSeq({ x, lengths: Int32Array.of(2, 1), padValue, out });
      const values = [...out.toNumbers()];
      x.free();
      out.free();
      return { values, expected: [...numbers(6), padValue, padValue] };
    },

    /** Two ops and a download in a batch, once it is warm: calls of Dawn on this thread. */
    async batch(): Promise<{ counts: CallCounts; values: number[][]; expected: number[][] }> {
      const x = onGpu("f32", [3, 1], numbers(3));
      const [first, second] = [Tensor.empty(operands, "f32", [2, 2, 1]), Tensor.empty(operands, "f32", [2, 2, 1])];
      const down = Tensor.empty(operands, "f32", [3, 1]);
      const run = async (): Promise<void> => {
        await backend.batch(() => {
          void pack(x, first);
          void backend.batch(() => void pack(x, second));
          void backend.download(x, down);
        });
      };
      for (let warm = 0; warm < 2; warm++) await run();
      const counts = await countCalls(run);
      const packed = [...numbers(3), Number.NEGATIVE_INFINITY];
      const values = [first, second, down].map((tensor) => [...tensor.toNumbers()]);
      return { counts, values, expected: [packed, packed, numbers(3)] };
    },

    /** A batch that throws leaves nothing to be run; memory that was made in it can be used. */
    async brokenBatch() {
      const x = onGpu("f32", [3, 1], numbers(3));
      const out = Tensor.zeros(operands, "f32", [2, 2, 1]);
      let made: Operand = x;
      const broken = await outcome(() =>
        backend.batch(() => {
          made = backend.empty("f32", [2]);
          void pack(x, out);
          void backend.upload(Tensor.zeros(operands, "f32", [3, 1]), x);
          throw new RangeError("no");
        }),
      );
      return { broken, values: await read(x), expected: numbers(3), out: [...out.toNumbers()], made: await read(made) };
    },

    /** Two ops whose first nobody awaits before the second. */
    async together() {
      const x = onGpu("f32", [3, 1], numbers(3));
      const outs = [Tensor.empty(operands, "f32", [2, 2, 1]), Tensor.empty(operands, "f32", [2, 2, 1])];
      await Promise.all(outs.map((out) => pack(x, out)));
      return { values: outs.map((out) => [...out.toNumbers()]), expected: [...numbers(3), Number.NEGATIVE_INFINITY] };
    },

    /**
     * Rank `wrong` passes an out of the wrong shape; what every rank is told, and whether the others got their results.
     */
    async wrongShape(wrong: number) {
      const x = onGpu("f32", [3, 1], numbers(3));
      const out = Tensor.zeros(operands, "f32", rank === wrong ? [2, 3, 1] : [2, 2, 1]);
      const told = await outcome(() => pack(x, out));
      return { told, values: [...out.toNumbers()], after: await read(x), expected: numbers(3) };
    },

    /** Rank `wrong` uses a tensor that it freed. */
    async useAfterFree(wrong: number) {
      const x = onGpu("f32", [1], [rank]);
      if (rank === wrong) x.free();
      return { told: await outcome(() => read(x)), after: await read(onGpu("f32", [1], [7])) };
    },

    /** Rank `wrong` wants more memory than there is; then it uses it again. */
    /**
     * Attention over 2 layers by a plan, whose block table and memory are gone before the owner is told, and without
     * one.
     */
    async planned() {
      const before = heap.usedBytes;
      const f32 = (shape: readonly number[], value: number): Tensor => Tensor.empty(operands, "f32", shape).fill(value);
      const caches = [rank + 1, -rank].map((value) => {
        const cache = backend.empty("f32", [2, 4, 1, 4]);
        const rows = f32([2, 4, 1, 4], value);
        void backend.upload(rows, cache);
        rows.free();
        return cache;
      });
      const blockTable = Tensor.from(operands, "i32", [1, 2], [1, 0]);
      const query = f32([1, 1, 4], 1);
      const outs = caches.map(() => ({ out: backend.empty("f32", [1, 1, 4]), lse: backend.empty("f32", [1, 1]) }));
      const step = { blockTable, sequences: [0], positions: [5] };
      const plan = backend.planAttention(step, { numBlocks: 2, blockSize: 4 });
      blockTable.fill(-9);
      for (const [layer, cache] of caches.entries()) {
        const { out, lse } = outs[layer] ?? { out: query, lse: query };
        void backend.partialAttention({ plan, query, keyCache: cache, valueCache: cache, out, lse });
      }
      plan.free();
      const refused = await outcome(() => {
        const [keyCache = query] = caches;
        const { out, lse } = outs[0] ?? { out: query, lse: query };
        return backend.partialAttention({ plan, query, keyCache, valueCache: keyCache, out, lse });
      });
      const values: number[][] = [];
      for (const { out } of outs) values.push(await read(out));
      // A peer tells of the plan's end with its next op.
      await read(query);
      for (const operand of [...caches, ...outs.flatMap(({ out, lse }) => [out, lse]), blockTable, query])
        operand.free();
      await read(backend.empty("f32", [1]));
      return { values, refused, left: heap.usedBytes - before };
    },

    async tooLarge(wrong: number) {
      const shape = rank === wrong ? [2 ** 40] : [2];
      const told: Outcome[] = [];
      let operand: Operand | undefined;
      told.push(
        await outcome(() => {
          operand = backend.empty("f32", shape);
          return read(operand.slice(0, 0, 2));
        }),
      );
      told.push(await outcome(() => read((operand ?? backend.empty("f32", [2])).slice(0, 0, 1))));
      return { told, after: await read(onGpu("f32", [1], [7])) };
    },

    /** A cache write of which everything is on the GPU is refused at once. */
    async wrongWrite() {
      const cache = backend.empty("f32", [1, 2, 1, 1]);
      const key = Tensor.zeros(operands, "f32", [2, 1, 1]);
      return outcome(() => backend.writeKvCache({ key, slotMapping: [1, 1], keyCache: cache }));
    },

    /** A tensor of a peer's is none of another backend's. */
    async foreignTensor() {
      const operand = backend.empty("f32", [1]);
      if (!(operand instanceof GpuTensor) || rank === 0) return { tag: "none", message: "" };
      return outcome(() => operand.buffer);
    },

    /** All but `absent` run an op. */
    async absence(absent: number): Promise<Outcome> {
      if (rank === absent) return { tag: "absent", message: "" };
      return outcome(() => read(backend.empty("f32", [1])));
    },

    /** The owner closes; then all run an op. */
    async afterClose(who: "owner" | "all") {
      const operand = backend.empty("f32", [1]);
      if (who === "all" || rank === 0) await backend.close();
      world.barrier();
      return outcome(() => read(operand));
    },

    async die(): Promise<Outcome> {
      if (rank === 0) process.exit(3);
      return outcome(() => read(backend.empty("f32", [1])));
    },
  };
}
