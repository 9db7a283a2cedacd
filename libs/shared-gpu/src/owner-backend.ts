import type { ProcessGroup } from "@lockstep/dist-groups";
import {
  type AttentionPlan,
  type AttentionStep,
  BackendClosed,
  type Completion,
  type KernelBackend,
  type KernelContext,
  type OpArguments,
  type Operand,
  type OpName,
  type PagedCacheSize,
} from "@lockstep/kernels";
import { type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import { CollectiveBackend } from "./collective-backend.ts";
import { type Call, hasHeapResults, isAboutMemory, runOp } from "./op-call.ts";
import { CallDecoder } from "./op-message.ts";
import { PeerMemory } from "./peer-memory.ts";
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
  readonly #nothing: Tensor;
  /** Within a batch: its collective calls. */
  #batch: Call[] | undefined;
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
    this.#memories = group.ranks.map((rank) => new PeerMemory(backend, rank));
    this.#decoders = this.#memories.map((memory) => new CallDecoder(heap, memory));
    this.#nothing = Tensor.empty(heap, "u8", [0]);
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    this.#expectOpen();
    if (!hasHeapResults(name, args)) return runOp(this.#backend, name, args);
    return this.#take([name, args] as unknown as Call);
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    this.#expectOpen();
    return this.#backend.planAttention(step, size);
  }

  empty(dtype: DType, shape: readonly number[]): Operand {
    return this.#backend.empty(dtype, shape);
  }

  upload(source: Tensor, target: Operand): Completion {
    return this.#backend.upload(source, target);
  }

  download(source: Operand, target: Tensor): Completion {
    this.#expectOpen();
    if (source.place === "heap") return this.#backend.download(source, target);
    return this.#take(["download", { source, target }]);
  }

  batch(run: () => void): Completion {
    this.#expectOpen();
    const outer = this.#batch;
    const batch = outer ?? [];
    const before = batch.length;
    this.#batch = batch;
    try {
      // Without heap results nothing is to be awaited.
      void this.#backend.batch(run);
    } catch (error) {
      batch.length = before;
      throw error;
    } finally {
      this.#batch = outer;
    }
    return outer !== undefined || batch.length === 0 ? undefined : this.#enqueue(batch);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#running.catch(() => undefined);
    await this.#backend.close();
    for (const memory of this.#memories) memory.forget();
    this.#nothing.free();
  }

  /** Before other ranks are waited for. */
  #expectOpen(): void {
    if (this.#closed) throw new BackendClosed(this.name);
  }

  #take(call: Call): Completion {
    if (this.#batch === undefined) return this.#enqueue([call]);
    this.#batch.push(call);
    return undefined;
  }

  /** Collective ops go one after another, as on the other ranks. */
  #enqueue(calls: readonly Call[]): Promise<void> {
    const run = (): Promise<void> => this.#run(calls);
    const done = this.#isRunning ? this.#running.then(run, run) : run();
    this.#isRunning = true;
    const running = done.finally(() => {
      if (this.#running === running) this.#isRunning = false;
    });
    this.#running = running;
    return running;
  }

  /** Runs what every rank called in one submission, and tells the others what came of it. */
  async #run(own: readonly Call[]): Promise<void> {
    const verdicts = new Map<number, unknown>();
    let completion: Completion;
    this.#group.readPeers(
      [this.#nothing],
      (messages) => {
        try {
          completion = this.#backend.batch(() => {
            for (const [rank, [message]] of messages.entries()) {
              const isOwn = rank === this.#group.rank;
              const calls = isOwn
                ? own.map((call) => () => call)
                : message && this.#decoders[rank]?.decode(message.bytes);
              this.#record(rank, calls ?? [], verdicts);
            }
          });
        } catch (error) {
          this.#failAll(error, verdicts);
        }
      },
      { deadlineMs: this.#deadlineMs },
    );
    try {
      await completion;
    } catch (error) {
      this.#failAll(error, verdicts);
    }
    tellVerdicts(this.#group, this.#heap, verdicts, this.#deadlineMs);
    if (verdicts.has(this.#group.rank)) throw verdicts.get(this.#group.rank);
  }

  /**
   * Records a rank's calls. After the first that fails only memory is still allocated and freed: others may rest on its
   * results.
   */
  #record(rank: number, calls: readonly (() => Call)[], verdicts: Map<number, unknown>): void {
    for (const take of calls) {
      try {
        const call = take();
        if (!verdicts.has(rank) || isAboutMemory(call)) this.#recordCall(rank, call);
      } catch (error) {
        if (!verdicts.has(rank)) verdicts.set(rank, error);
      }
    }
  }

  /** Ops in a batch complete with it: nothing is awaited here. */
  #recordCall(rank: number, call: Call): void {
    const [name, args] = call;
    if (name === "empty") this.#memories[rank]?.allocate(args.id, args.dtype, args.shape);
    else if (name === "free") {
      this.#memories[rank]?.free(args.id);
      this.#decoders[rank]?.forget();
    } else if (name === "plan") this.#memories[rank]?.plan(args.id, args.step, args.size);
    else if (name === "freePlan") {
      this.#memories[rank]?.freePlan(args.id);
      this.#decoders[rank]?.forget();
    } else if (name === "upload") void this.#backend.upload(args.source, args.target);
    else if (name === "download") void this.#backend.download(args.source, args.target);
    else void runOp(this.#backend, ...(call as readonly [OpName, OpArguments[OpName]]));
  }

  /** The device failed, with everybody's ops; who was told of something else before keeps that. */
  #failAll(error: unknown, verdicts: Map<number, unknown>): void {
    for (let rank = 0; rank < this.#group.size; rank++) if (!verdicts.has(rank)) verdicts.set(rank, error);
  }
}
