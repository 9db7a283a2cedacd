import type { ProcessGroup } from "@lockstep/dist-groups";
import {
  AttentionPlan,
  type AttentionStep,
  BackendClosed,
  type Completion,
  GpuTensor,
  type KernelBackend,
  type KernelContext,
  type OpArguments,
  type Operand,
  type OpName,
  type PagedCacheSize,
} from "@lockstep/kernels";
import { ArgumentError, type DType, type SharedHeap, type Tensor } from "@lockstep/tensor";
import { CollectiveBackend, FENCES_PER_RUN } from "./collective-backend.ts";
import { CallsDiffer } from "./errors.ts";
import { expectAlike } from "./expect-alike.ts";
import { HeldOperands } from "./held-operands.ts";
import { meet, newMessage, writePurpose } from "./meeting.ts";
import { type Call, type Called, calledBy, FENCE, hasHeapResults, isCollective, runOp } from "./op-call.ts";
import { CallDecoder, type EncodedCalls, type GpuView } from "./op-message.ts";
import { PeerMemory } from "./peer-memory.ts";
import { RecordedRun } from "./recorded-run.ts";
import { showTensors, shownTensor } from "./shown-tensors.ts";
import { tellVerdicts } from "./verdicts.ts";

/** The side of the rank that holds the device. Closing it closes `backend`. */
export function ownerBackend(
  backend: KernelBackend,
  heap: SharedHeap,
  group: ProcessGroup,
  deadlineMs: number | undefined,
): CollectiveBackend {
  return new OwnerBackend(backend, heap, group, deadlineMs);
}

class OwnerBackend extends CollectiveBackend {
  readonly device: string;
  readonly batchInvariant: boolean;
  readonly context: KernelContext;
  readonly #backend: KernelBackend;
  readonly #heap: SharedHeap;
  readonly #group: ProcessGroup;
  readonly #deadlineMs: number | undefined;
  readonly #memories: readonly PeerMemory[];
  readonly #decoders: readonly CallDecoder[];
  /** A message of no contents. */
  readonly #nothing: Tensor;
  /** What is run with the others' calls: collective ones, and from a fence on all. */
  #calls: Call[] = [];
  /** What calls behind a fence hold on to. */
  #held: HeldOperands;
  /** Takes back memory that the caller freed while such calls may use it. */
  #freed: (() => void)[] = [];
  /** Fences among the calls. */
  #fences = 0;
  #isBatching = false;
  /** The device's memory behind what `empty` gave, and numbers of memory that others were shown. */
  readonly #lent = new WeakMap<object, GpuTensor>();
  readonly #shown = new Map<object, number>();
  readonly #ownViews = new WeakMap<GpuTensor, GpuTensor>();
  readonly #planSizes = new WeakMap<AttentionPlan, PagedCacheSize>();
  #nextId = 1;
  /** Whether ranks have seen each other's memory: what one frees others may use until all meet. */
  #isShowing = false;
  /** The collective op under way. */
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  #closed = false;

  constructor(backend: KernelBackend, heap: SharedHeap, group: ProcessGroup, deadlineMs: number | undefined) {
    super();
    this.device = backend.device;
    this.batchInvariant = backend.batchInvariant;
    this.context = backend.context;
    this.#backend = backend;
    this.#heap = heap;
    this.#group = group;
    this.#deadlineMs = deadlineMs;
    this.#held = new HeldOperands(heap);
    const memories = group.ranks.map((_, rank) => new PeerMemory(backend, rank));
    this.#memories = memories;
    this.#decoders = memories.map((own) => {
      const view = (of: GpuView): GpuTensor => (memories[of.rank] ?? own).view(of);
      return new CallDecoder(heap, { view, planOf: (id) => own.planOf(id) });
    });
    this.#nothing = newMessage(heap, "calls");
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    this.#expectOpen();
    if (hasHeapResults(name, args)) return this.#take([name, this.#ofDevice(args)] as unknown as Call);
    if (this.#fences === 0) return runOp(this.#backend, name, args);
    this.#calls.push(this.heldCall(name, args, (given) => this.#held.of(this.#ofDevice(given))));
    return undefined;
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    this.#expectOpen();
    const plan = this.#backend.planAttention(step, size);
    this.#planSizes.set(plan, { ...size });
    return plan;
  }

  empty(dtype: DType, shape: readonly number[]): Operand {
    const tensor = this.#backend.empty(dtype, shape);
    if (tensor.place === "heap") return tensor;
    const { memory } = tensor;
    this.#lent.set(memory, tensor);
    return GpuTensor.lend(tensor, () => {
      const id = this.#shown.get(memory);
      const free = (): void => {
        if (id !== undefined) this.#memories[this.#group.rank]?.drop(id);
        this.#shown.delete(memory);
        tensor.free();
      };
      if ((this.#fences > 0 || id !== undefined) && !this.#closed) this.#freed.push(free);
      else free();
    });
  }

  upload(source: Tensor, target: Operand): Completion {
    this.#expectOpen();
    if (this.#fences === 0 || target.place === "heap") return this.#backend.upload(source, target);
    expectAlike("upload", "target", target, source);
    target.assertUsable("upload", "target");
    this.#calls.push(["upload", this.#held.of(this.#ofDevice({ source, target }))]);
    return undefined;
  }

  download(source: Operand, target: Tensor): Completion {
    this.#expectOpen();
    if (source.place === "heap") return this.#backend.download(source, target);
    return this.#take(["download", this.#ofDevice({ source, target })]);
  }

  batch(run: () => void): Completion {
    this.#expectOpen();
    const isOuter = !this.#isBatching;
    const [calls, held] = [this.#calls.length, this.#held.count];
    this.#isBatching = true;
    try {
      // Without heap results nothing is to be awaited.
      void this.#backend.batch(run);
    } catch (error) {
      this.#calls.length = calls;
      this.#fences = this.#calls.filter(([name]) => name === FENCE[0]).length;
      this.#held.releaseFrom(held);
      throw error;
    } finally {
      if (isOuter) this.#isBatching = false;
    }
    return isOuter && this.#calls.slice(calls).some(isCollective) ? this.#enqueue() : undefined;
  }

  get ranks(): readonly number[] {
    return this.#group.ranks;
  }

  fence(): Completion {
    this.#expectOpen();
    this.#calls.push(FENCE);
    this.#fences += 1;
    return this.#isBatching || this.#fences < FENCES_PER_RUN ? undefined : this.#enqueue();
  }

  async show(make: () => readonly GpuTensor[]): Promise<readonly (readonly GpuTensor[])[]> {
    this.#expectOpen();
    const { rank } = this.#group;
    let tensors: readonly GpuTensor[] = [];
    let own: Parameters<typeof showTensors>[2];
    this.#isShowing = true;
    try {
      await this.#enqueue("show");
      tensors = make();
      own = tensors.map((tensor) => {
        tensor.assertUsable("show", "tensors");
        return shownTensor(rank, this.#numberOf(tensor), tensor);
      });
    } catch (failure) {
      // The others do not show either.
      if (failure instanceof CallsDiffer) throw failure;
      own = { failure };
    }
    const shown = showTensors(this.#group, this.#heap, own, this.#deadlineMs);
    return shown.map((ofRank, of) => {
      return of === rank ? tensors : ofRank.map((view) => (this.#memories[of] ?? absent(of)).view(view));
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#running.catch(() => undefined);
    await this.#backend.close();
    for (const memory of this.#memories) memory.forget();
    this.#calls = [];
    this.#freed = [];
    this.#held.release();
    this.#nothing.free();
  }

  /** Before other ranks are waited for. */
  #expectOpen(): void {
    if (this.#closed) throw new BackendClosed(this.name);
  }

  /** The number by which the others know the memory of a tensor. */
  #numberOf(tensor: GpuTensor): number {
    const { memory } = tensor;
    const known = this.#shown.get(memory);
    if (known !== undefined) return known;
    const own = this.#lent.get(memory);
    if (own === undefined) {
      const received = "one of another backend, or of a buffer of the caller's";
      throw new ArgumentError("show", "tensors", "of this backend's memory, made with `empty`", received);
    }
    const id = this.#nextId++;
    this.#memories[this.#group.rank]?.adopt(id, own);
    this.#shown.set(memory, id);
    return id;
  }

  /** Arguments that stay usable when the caller frees what was given: views of the memory, and copies of plans. */
  #ofDevice<T extends object>(args: T): T {
    const held = (value: unknown): unknown => {
      if (value instanceof GpuTensor) return this.#ownView(value);
      if (this.#fences > 0 && AttentionPlan.isPlan(value)) {
        const size = this.#planSizes.get(value);
        return size === undefined ? value : this.#held.planOf(value, size);
      }
      return Array.isArray(value) ? value.map(held) : value;
    };
    return Object.fromEntries(Object.entries(args).map(([name, value]) => [name, held(value)])) as T;
  }

  #ownView(tensor: GpuTensor): GpuTensor {
    if (tensor.isFreed) return tensor;
    let own = this.#ownViews.get(tensor);
    if (own === undefined) {
      const { memory, dtype, shape, strides, elementOffset } = tensor;
      own = new GpuTensor(memory, dtype, shape, strides, elementOffset, () => undefined);
      this.#ownViews.set(tensor, own);
    }
    return own;
  }

  #take(call: Call): Completion {
    this.#calls.push(call);
    return this.#isBatching ? undefined : this.#enqueue();
  }

  /** Collective ops go one after another, as on the other ranks. */
  #enqueue(called: Called = calledBy(this.#calls)): Promise<void> {
    const [calls, held, freed] = [this.#calls, this.#held, this.#freed];
    this.#calls = [];
    this.#held = new HeldOperands(this.#heap);
    this.#freed = [];
    this.#fences = 0;
    const run = async (): Promise<void> => {
      try {
        await this.#run(called, calls);
      } finally {
        held.release();
        for (const free of freed) free();
      }
    };
    const done = this.#isRunning ? this.#running.then(run, run) : run();
    this.#isRunning = true;
    const running = done.finally(() => {
      if (this.#running === running) this.#isRunning = false;
    });
    this.#running = running;
    return running;
  }

  /** Runs what every rank called in one submission, and tells the others what came of it. */
  async #run(called: Called, own: readonly Call[]): Promise<void> {
    const { rank, size } = this.#group;
    const [backend, memories, decoders] = [this.#backend, this.#memories, this.#decoders];
    const run = new RecordedRun({ backend, memories, decoders, size, keepsFreed: this.#isShowing });
    let completion: Completion;
    const ofOwner: EncodedCalls = {
      called,
      calls: own.map((call) => ({ isFence: call === FENCE, take: () => call })),
    };
    writePurpose(this.#nothing, "calls");
    meet(
      this.#group,
      "calls",
      this.#nothing,
      (messages) => {
        try {
          const ofRanks = messages.map((message, of) => (of === rank ? ofOwner : decoders[of]?.decode(message)));
          completion = backend.batch(() => run.record(ofRanks.map((one) => one ?? ofOwner)));
        } catch (error) {
          run.fail(error);
        }
        run.free();
      },
      this.#deadlineMs,
    );
    try {
      await completion;
    } catch (error) {
      run.fail(error);
    }
    tellVerdicts(this.#group, this.#heap, run.verdicts, this.#nothing, this.#deadlineMs);
    if (run.verdicts.has(rank)) throw run.verdicts.get(rank);
  }
}

function absent(rank: number): never {
  throw new RangeError(`no rank ${rank} shares the device`);
}
