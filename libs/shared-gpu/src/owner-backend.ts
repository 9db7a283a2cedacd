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
import { CallsDiffer, FenceFailed, FencesDiffer } from "./errors.ts";
import { expectAlike } from "./expect-alike.ts";
import { HeldOperands } from "./held-operands.ts";
import { meet, newMessage, writePurpose } from "./meeting.ts";
import {
  type Call,
  type Called,
  calledBy,
  FENCE,
  goTogether,
  hasHeapResults,
  isAboutMemory,
  isCollective,
  isOpCall,
  type OpCall,
  runOp,
} from "./op-call.ts";
import { CallDecoder, type EncodedCall, type EncodedCalls, type GpuView } from "./op-message.ts";
import { PeerMemory } from "./peer-memory.ts";
import { type OpOfRank, recordRound } from "./record-round.ts";
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
    const verdicts = new Map<number, unknown>();
    const freed: (() => void)[] = [];
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
          const ofRanks = messages.map((message, rank) => this.#decoders[rank]?.decode(message) ?? ofOwner);
          ofRanks[this.#group.rank] = ofOwner;
          completion = this.#backend.batch(() => this.#recordAll(ofRanks, verdicts, freed));
        } catch (error) {
          this.#failAll(error, verdicts);
        }
        for (const free of freed) free();
      },
      this.#deadlineMs,
    );
    try {
      await completion;
    } catch (error) {
      this.#failAll(error, verdicts);
    }
    tellVerdicts(this.#group, this.#heap, verdicts, this.#nothing, this.#deadlineMs);
    if (verdicts.has(this.#group.rank)) throw verdicts.get(this.#group.rank);
  }

  /** Records what all ranks called before their first fences, then what they called before their second, and so on. */
  #recordAll(ofRanks: readonly EncodedCalls[], verdicts: Map<number, unknown>, freed: (() => void)[]): void {
    const rounds = ofRanks.map(({ calls }) => roundsOf(calls));
    const count = rounds[this.#group.rank]?.length ?? 0;
    const called = ofRanks.map((one) => one.called);
    if (!goTogether(called)) this.#failAll(new CallsDiffer(called.map((name) => `\`${name}\``)), verdicts);
    if (rounds.some(({ length }) => length !== count)) {
      this.#failAll(new FencesDiffer(rounds.map(({ length }) => length - 1)), verdicts);
    }
    const most = Math.max(...rounds.map(({ length }) => length));
    for (let round = 0; round < most; round++) {
      if (round > 0) this.#spread(verdicts);
      const frees = this.#isShowing ? freed : undefined;
      recordRound(
        rounds.map((ofRank) => ofRank[round] ?? []),
        {
          record: (rank, call) => this.#record(rank, call, verdicts, frees),
          recordTogether: (ops) => this.#recordTogether(ops, verdicts),
        },
      );
    }
  }

  /** What ranks call behind a fence rests on what all called before it. */
  #spread(verdicts: Map<number, unknown>): void {
    const [failed] = verdicts;
    if (failed === undefined) return;
    const [rank, error] = failed;
    this.#failAll(new FenceFailed(rank, error instanceof Error ? error.message : String(error)), verdicts);
  }

  /**
   * Records a rank's call, or gives it back when it is an op that could share a dispatch with others'. After its first
   * that fails only memory is still allocated and freed: others may rest on its results.
   */
  #record(
    rank: number,
    { take }: EncodedCall,
    verdicts: Map<number, unknown>,
    freed: (() => void)[] | undefined,
  ): OpCall | undefined {
    try {
      const call = take();
      if (verdicts.has(rank) && !isAboutMemory(call)) return undefined;
      if (isOpCall(call) && this.#backend.together?.takes(call[0]) === true) return call;
      this.#recordCall(rank, call, freed);
    } catch (error) {
      if (!verdicts.has(rank)) verdicts.set(rank, error);
    }
    return undefined;
  }

  #recordTogether(ops: readonly OpOfRank[], verdicts: Map<number, unknown>): void {
    const [first] = ops;
    if (first === undefined) return;
    const args = ops.map(({ call }) => call[1]);
    const outcomes = this.#backend.together?.run(first.call[0], args);
    for (const [index, outcome] of outcomes?.entries() ?? []) {
      const rank = ops[index]?.rank;
      if (outcome !== undefined && rank !== undefined && !verdicts.has(rank)) verdicts.set(rank, outcome.error);
    }
  }

  /** Ops in a batch complete with it: nothing is awaited here. */
  #recordCall(rank: number, call: Call, freed: (() => void)[] | undefined): void {
    const [name, args] = call;
    if (name === "empty") this.#memories[rank]?.allocate(args.id, args.dtype, args.shape);
    else if (name === "free") {
      const free = (): void => {
        this.#memories[rank]?.free(args.id);
        for (const decoder of this.#decoders) decoder.forget();
      };
      if (freed === undefined) free();
      else freed.push(free);
    } else if (name === "plan") this.#memories[rank]?.plan(args.id, args.step, args.size);
    else if (name === "freePlan") this.#memories[rank]?.freePlan(args.id);
    else if (name === "upload") void this.#backend.upload(args.source, args.target);
    else if (name === "download") void this.#backend.download(args.source, args.target);
    else if (name !== "fence") void runOp(this.#backend, ...(call as readonly [OpName, OpArguments[OpName]]));
  }

  /** The device failed, with everybody's ops; who was told of something else before keeps that. */
  #failAll(error: unknown, verdicts: Map<number, unknown>): void {
    for (let rank = 0; rank < this.#group.size; rank++) if (!verdicts.has(rank)) verdicts.set(rank, error);
  }
}

function roundsOf(calls: readonly EncodedCall[]): EncodedCall[][] {
  const rounds: EncodedCall[][] = [[]];
  for (const call of calls) {
    if (call.isFence) rounds.push([]);
    else rounds.at(-1)?.push(call);
  }
  return rounds;
}

function absent(rank: number): never {
  throw new RangeError(`no rank ${rank} shares the device`);
}
