// The rank's side of the tests of steps that are cut in slices: one in which a rank fails, and the same one again.
import { DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import type { Completion, KernelBackend } from "@lockstep/kernels";
import { LockstepError, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { SLICING } from "../src/combine/row-slices.ts";
import { openTestBackend } from "./test-backend.ts";

/**
 * A rank that fails in a submission of a layer, by its number: slices come down first, of both halves if there are two,
 * and what is merged for the heap comes after them. "throws": it is not accepted. "rejects": it ends with an error. On
 * all ranks the submissions from there to the eighth end late, one after another.
 */
export interface SliceFault {
  readonly rank: number;
  readonly submission: number;
  readonly how: "throws" | "rejects";
}

/** What a rank came out with. */
export interface FaultResult {
  readonly said: string;
  /** Promises of the backend's that had not settled when the call had failed. */
  readonly underWay: number;
}

const [HEADS, DIM, BATCH, TOKENS] = [6, 8, 9, 5];
const LATE_MS = 50;
/** Of two halves those that come down; of a whole step those that go to the heap, too. */
const LATE_SUBMISSIONS = 8;

/** Called by the world on every rank. */
export async function setup(context: RankContext) {
  const { heap, rank } = context;
  const device = await openTestBackend(context, "webgpu invariant");
  const made: Tensor[] = [];
  let opened: { readonly attention: DcpAttention; readonly sequences: readonly number[] } | undefined;
  let found: FaultResult = { said: "nothing", underWay: -1 };
  const backend = failingBackend(device);
  SLICING.leastBytes = 64;
  context.onClose(() => opened?.attention.close());

  const own = headRange(HEADS, context.world.rank, context.world.size);
  const random = new RandomStream(3);
  const rows = (count: number, heads: number): Tensor => {
    const tensor = Tensor.from(heap, "f32", [count, heads, DIM], random.normals(count * heads * DIM));
    made.push(tensor);
    return tensor;
  };
  const query = rows(BATCH, HEADS).slice(1, own.start, own.end).clone(heap);
  const out = Tensor.empty(heap, "f32", [BATCH, own.count, DIM]);

  async function step(): Promise<Uint8Array> {
    if (opened === undefined) throw new Error("not opened");
    const { attention, sequences } = opened;
    out.fill(Number.NaN);
    attention.beginStep(sequences.map((sequence) => ({ sequence, tokens: 0, queries: 1 })));
    await attention.attend(0, query, out);
    attention.endStep();
    return out.bytes.slice();
  }

  return {
    /** Opens attention over some tokens and runs a step; returns its bits. */
    async open(overlap: "on" | "off"): Promise<Uint8Array> {
      const attention = DcpAttention.open({
        backend: backend.failing,
        heap,
        dcpGroup: context.world,
        layers: 1,
        queryHeads: HEADS,
        kvHeads: 1,
        headDim: DIM,
        kvDtype: "f32",
        blockSize: 4,
        numBlocks: BATCH * TOKENS,
        combine: "a2a",
        overlap,
      });
      const sequences = Array.from({ length: BATCH }, () => attention.createSequence());
      opened = { attention, sequences };
      for (const sequence of sequences) {
        attention.beginStep([{ sequence, tokens: TOKENS, queries: 0 }]);
        await attention.write(0, rows(TOKENS, 1), rows(TOKENS, 1));
        attention.endStep();
      }
      return step();
    },

    /** A step in which a rank fails. Throws where it failed. */
    async fault(fault: SliceFault): Promise<void> {
      if (opened === undefined) throw new Error("not opened");
      found = { said: "nothing", underWay: -1 };
      backend.arm(fault, fault.rank === rank);
      try {
        await step();
      } catch (error) {
        const underWay = backend.underWay();
        opened.attention.cancelStep();
        found = { said: error instanceof LockstepError ? error._tag : String(error), underWay };
        throw error;
      }
    },

    /** What the last `fault` came out with. */
    found: () => found,

    /** Goes on with new groups: the same step without a fault. */
    goOn(): Promise<Uint8Array> {
      backend.disarm();
      opened?.attention.useGroups({ dcpGroup: context.world });
      return step();
    },
  };
}

/** A backend one of whose batches fails, once it was armed, and that knows which promises it gave have not settled. */
function failingBackend(backend: KernelBackend) {
  let armed: { readonly fault: SliceFault; readonly fails: boolean } | undefined;
  let batches = 0;
  const pending = new Set<Promise<void>>();
  const watched = (done: Completion): Completion => {
    if (done === undefined) return undefined;
    pending.add(done);
    const end = (): void => void pending.delete(done);
    done.then(end, end);
    return done;
  };
  const endsLate = async (done: Completion, turn: number, fails: boolean): Promise<void> => {
    await done;
    await Bun.sleep(turn * LATE_MS);
    if (fails) throw new Error("stopped on purpose");
  };
  const batch = (run: () => void): Completion => {
    const number = batches++;
    const turn = number - (armed?.fault.submission ?? 0);
    if (armed === undefined || turn < 0 || number >= LATE_SUBMISSIONS) return watched(backend.batch(run));
    const fails = turn === 0 && armed.fails;
    if (fails && armed.fault.how === "throws") throw new Error("stopped on purpose");
    return watched(endsLate(watched(backend.batch(run)), turn, fails));
  };
  const failing = new Proxy(backend, {
    get(target, name) {
      if (name === "batch") return batch;
      const found: unknown = Reflect.get(target, name, target);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
  const arm = (fault: SliceFault, fails: boolean): void => {
    armed = { fault, fails };
    batches = 0;
  };
  const disarm = (): void => {
    armed = undefined;
  };
  return { failing, arm, disarm, underWay: (): number => pending.size };
}
