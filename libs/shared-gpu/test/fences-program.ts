// The rank's side of the tests of fences: ops on each other's memory on a shared device, right and wrong.
import type { RankContext } from "@lockstep/dist-groups";
import { type DeviceSharing, GpuTensor, type KernelBackend, type Operand } from "@lockstep/kernels";
import { LockstepError, Tensor } from "@lockstep/tensor";
import { type CallCounts, countCalls } from "../../kernels/src/testing/count-calls.ts";
import { FENCES_PER_RUN } from "../src/collective-backend.ts";
import { openSharedBackend } from "../src/shared-backend.ts";

/** What became of a call: the tag and words of what it threw, "none" for nothing. */
export interface Outcome {
  readonly tag: string;
  readonly message: string;
}

/** What of a backend ranks call together. The batch ends with an op; the fences are as many as make a run. */
export type MixedCall = "show" | "op" | "batch" | "fences";

/** Called by the world on every rank. */
export async function setup({ heap, world, rank, onClose }: RankContext) {
  const backend = await openSharedBackend({ heap, group: world, adapter: "software" });
  onClose(() => backend.close());
  const sharing: DeviceSharing = backend.sharing ?? missing();

  async function outcome(run: () => unknown): Promise<Outcome> {
    try {
      await run();
    } catch (error) {
      return { tag: error instanceof LockstepError ? error._tag : "unknown", message: String(error) };
    }
    return { tag: "none", message: "" };
  }

  /** A tensor of one number of this rank's, on the device. */
  function one(value: number, shape: readonly number[] = [1, 1]): GpuTensor {
    const made = backend.empty("f32", shape);
    if (!(made instanceof GpuTensor)) throw new Error("not on the device");
    if (made.size <= 16) put(value, made);
    return made;
  }

  function put(value: number, target: Operand): void {
    const source = Tensor.empty(heap, "f32", target.shape).fill(value);
    void backend.upload(source, target);
    // What goes up is what it was then.
    source.fill(-1);
    source.free();
  }

  /** Copies [1, 1] to [1, 1] on the device. */
  function copy(from: Operand, to: GpuTensor): ReturnType<KernelBackend["packSeq"]> {
    const out = new GpuTensor(to.memory, "f32", [1, 1, 1], undefined, to.elementOffset, () => undefined);
    return backend.packSeq({ x: from, lengths: [1], out });
  }

  async function read(operand: Operand): Promise<number> {
    const tensor = Tensor.empty(heap, "f32", operand.shape);
    await backend.download(operand, tensor);
    const value = tensor.at(...operand.shape.map(() => 0));
    tensor.free();
    return value;
  }

  return {
    /** Passes numbers around the ring, a rank further at each fence: only their order makes that right. */
    async ring(rounds: number): Promise<{ values: number[]; expected: number[] }> {
      const [at, next] = [one(0), one(0)];
      const places = await sharing.show(() => [at, next]);
      const before = places[(rank + world.size - 1) % world.size] ?? [];
      put(100 + rank, at);
      const values: number[] = [];
      const expected: number[] = [];
      for (let round = 1; round <= rounds; round++) {
        await sharing.fence();
        void copy(before[0] ?? missing(), next);
        await sharing.fence();
        void copy(next, at);
        if (round % 7 !== 0 && round !== rounds) continue;
        values.push(await read(at));
        expected.push(100 + ((((rank - round) % world.size) + world.size) % world.size));
      }
      at.free();
      next.free();
      return { values, expected };
    },

    /**
     * What the caller freed, changed or forgot while its calls wait: operands, plans, shown memory. In the heap nothing
     * is left.
     */
    async freedEarly(): Promise<{ value: number; expected: number; attended: number[]; left: number }> {
      const used = heap.usedBytes;
      const [own, kept] = [one(rank + 1), one(0)];
      const shown = await sharing.show(() => [own]);
      const peer = shown[(rank + 1) % world.size]?.[0] ?? missing();
      await sharing.fence();
      void copy(peer, kept);
      // The peer's copy of it runs later.
      own.free();
      const cache = one(0, [1, 2, 1, 4]);
      put(rank + 5, cache);
      const query = Tensor.empty(heap, "f32", [1, 1, 4]).fill(1);
      const blockTable = Tensor.from(heap, "i32", [1, 1], [0]);
      const [out, lse] = [one(0, [1, 1, 4]), one(0, [1, 1])];
      const step = { blockTable, sequences: [0], positions: [1] };
      const plan = backend.planAttention(step, { numBlocks: 1, blockSize: 2 });
      const attended = { plan, query, keyCache: cache, valueCache: cache, out, lse };
      void backend.partialAttention(attended);
      plan.free();
      const refused = await outcome(() => backend.partialAttention(attended));
      blockTable.fill(7);
      query.fill(Number.NaN);
      for (const operand of [blockTable, query, cache]) operand.free();
      const down = Tensor.empty(heap, "f32", [1, 1, 4]);
      await backend.download(out, down);
      const values = [...down.toNumbers(), refused.tag === "UseAfterFree" ? 1 : 0];
      const value = await read(kept);
      for (const operand of [kept, out, lse, down]) operand.free();
      // What was freed is told with the next op.
      await read(one(1));
      const expected = ((rank + 1) % world.size) + 1;
      return { value, expected, attended: values, left: heap.usedBytes - used };
    },

    /** Rank `wrong` calls, between two fences, what only the device's holder can refuse. */
    async failBefore(wrong: number): Promise<{ told: Outcome; value: number; after: number }> {
      const [own, out, wide, packed] = [one(rank), one(50), one(1, [2, 2]), one(0, [1, 2, 1])];
      await sharing.show(() => [own]);
      await sharing.fence();
      if (rank === wrong) void backend.packSeq({ x: wide.slice(1, 0, 1), lengths: [2], out: packed });
      await sharing.fence();
      void copy(own, out);
      const told = await outcome(() => read(own));
      return { told, value: await read(out), after: await read(one(7)) };
    },

    /** Rank `absent` forgets a fence. */
    async forget(absent: number): Promise<{ told: Outcome; after: number }> {
      const own = one(rank);
      if (rank !== absent) await sharing.fence();
      const told = await outcome(() => read(own));
      return { told, after: await read(one(7)) };
    },

    /** Rank `odd` calls one thing, the others another; what `odd` made just before is used afterwards. */
    async mix(odd: number, its: MixedCall, others: MixedCall): Promise<{ told: Outcome; after: number }> {
      const [own, other, out] = [one(rank), one(0), Tensor.empty(heap, "f32", [1, 1])];
      const batch = (): void => {
        void copy(own, other);
        void backend.download(other, out);
      };
      const call = rank === odd ? its : others;
      const told = await outcome(async () => {
        if (call === "show") await sharing.show(() => [own]);
        else if (call === "op") await read(own);
        else if (call === "batch") await backend.batch(batch);
        else for (let fence = 0; fence < FENCES_PER_RUN; fence++) await sharing.fence();
      });
      out.free();
      put(7, own);
      return { told, after: await read(own) };
    },

    /** Rank `full` has no room to say what it shows, and goes on to an op. */
    async showWithoutRoom(full: number): Promise<{ first: Outcome; told: Outcome; after: number }> {
      const own = one(rank);
      const out = Tensor.empty(heap, "f32", [1, 1]);
      await sharing.show(() => [own]);
      const blocks: ReturnType<typeof heap.allocate>[] = [];
      for (let bytes = heap.freeBytes; rank === full && bytes >= 1; ) {
        try {
          blocks.push(heap.allocate(bytes));
        } catch {
          bytes = Math.floor(bytes / 2);
        }
      }
      const show = () => outcome(() => sharing.show(() => [own]));
      const first = await show();
      const told = rank === full ? await outcome(() => backend.download(own, out)) : first;
      for (const block of blocks) heap.release(block);
      const again = await show();
      if (again.tag !== "none") throw new Error(again.message);
      put(7, own);
      return { first, told, after: await read(own) };
    },

    /** Rank `odd` opens a backend while the others call an op. */
    async openWhile(odd: number): Promise<Outcome> {
      const own = one(rank);
      if (rank !== odd) return outcome(() => read(own));
      return outcome(() => openSharedBackend({ heap, group: world, adapter: "software" }));
    },

    /** Rank `wrong` shows more memory than there is. */
    async showTooMuch(wrong: number): Promise<{ told: Outcome; after: number }> {
      const told = await outcome(() => sharing.show(() => [one(1, rank === wrong ? [2 ** 31] : [1])]));
      return { told, after: await read(one(7)) };
    },

    /** Rank `wrong` shows what is not this backend's, and what was freed. */
    async showWhatIsNot(wrong: number): Promise<{ foreign: Outcome; freed: Outcome; after: number }> {
      const memory = { isRemote: true, size: 16 } as const;
      const foreign = new GpuTensor(memory, "f32", [1], undefined, 0, () => undefined);
      const gone = one(1);
      gone.free();
      const shows = (tensor: GpuTensor) => outcome(() => sharing.show(() => (rank === wrong ? [tensor] : [])));
      return { foreign: await shows(foreign), freed: await shows(gone), after: await read(one(7)) };
    },

    /** A batch that throws behind a fence leaves no call. */
    async brokenBatch(): Promise<number> {
      const [own, out] = [one(rank + 10), one(0)];
      await sharing.fence();
      await outcome(() =>
        backend.batch(() => {
          put(1, own);
          void sharing.fence();
          throw new RangeError("no");
        }),
      );
      void copy(own, out);
      return read(out);
    },

    /** Fences and ops, and nobody wants anything: calls of Dawn on this thread, and what is kept in the heap. */
    async manyFences(): Promise<{ counts: CallCounts; kept: number; value: number }> {
      const [own, out] = [one(rank), one(0)];
      await read(own);
      const used = heap.usedBytes;
      const counts = await countCalls(async () => {
        for (let fence = 0; fence < 5 * FENCES_PER_RUN; fence++) {
          put(fence, own);
          void copy(own, out);
          await sharing.fence();
        }
      });
      return { counts, kept: heap.usedBytes - used, value: await read(out) };
    },
  };
}

function missing(): never {
  throw new Error("not there");
}
