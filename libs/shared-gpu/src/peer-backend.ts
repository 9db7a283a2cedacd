import type { ProcessGroup } from "@lockstep/dist-groups";
import {
  AttentionPlan,
  type AttentionStep,
  BackendClosed,
  type Completion,
  GpuTensor,
  KernelContext,
  type OpArguments,
  type Operand,
  type OpName,
  opResults,
  type PagedCacheSize,
} from "@lockstep/kernels";
import {
  ArgumentError,
  checkDType,
  checkShape,
  DTYPE_BYTES,
  type DType,
  elementCount,
  type SharedHeap,
  Tensor,
} from "@lockstep/tensor";
import { CollectiveBackend, FENCES_PER_RUN } from "./collective-backend.ts";
import { CallsDiffer } from "./errors.ts";
import { expectAlike } from "./expect-alike.ts";
import { HeldOperands } from "./held-operands.ts";
import { NumberedMemory } from "./numbered-memory.ts";
import { HEADER_BYTES, meet, writePurpose } from "./meeting.ts";
import { type Call, type Called, calledBy, FENCE, hasHeapResults, isAboutMemory } from "./op-call.ts";
import { CallEncoder, notePlan } from "./op-message.ts";
import { showTensors, shownTensor } from "./shown-tensors.ts";
import { awaitVerdict } from "./verdicts.ts";

/** What a rank knows of the GPU that another holds. */
export interface SharedDevice {
  readonly device: string;
  readonly batchInvariant: boolean;
}

/** The side of a rank that has its ops run by the owner of the device. */
export function peerBackend(
  { device, batchInvariant }: SharedDevice,
  heap: SharedHeap,
  group: ProcessGroup,
  deadlineMs: number | undefined,
): CollectiveBackend {
  return new PeerBackend(device, batchInvariant, heap, group, deadlineMs);
}

class PeerBackend extends CollectiveBackend {
  readonly device: string;
  readonly batchInvariant: boolean;
  readonly context = new KernelContext();
  readonly #heap: SharedHeap;
  readonly #group: ProcessGroup;
  readonly #deadlineMs: number | undefined;
  readonly #encoder = new CallEncoder();
  /** Where messages lie; grows. */
  #message: Tensor;
  /** What the owner has not been told yet. */
  #calls: Call[] = [];
  /** Heap operands of these calls, as they were when the calls were made. */
  readonly #held: HeldOperands;
  /** Fences among them. */
  #fences = 0;
  /** Copies that these calls write to, of results in a memory that the owner cannot reach. */
  #results: { readonly copy: Tensor; readonly target: Tensor }[] = [];
  /** Block tables of plans that the owner has not been told of yet. They outlive a batch that fails. */
  #planTables: Tensor[] = [];
  /** Within a batch: whether it has a call that is collective. */
  #batch: { isCollective: boolean } | undefined;
  #nextId = 1;
  #closed = false;

  constructor(
    device: string,
    batchInvariant: boolean,
    heap: SharedHeap,
    group: ProcessGroup,
    deadlineMs: number | undefined,
  ) {
    super();
    this.device = device;
    this.batchInvariant = batchInvariant;
    this.#heap = heap;
    this.#group = group;
    this.#deadlineMs = deadlineMs;
    this.#held = new HeldOperands(heap);
    this.#message = Tensor.empty(heap, "u8", [4096]);
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    this.#expectOpen();
    if (hasHeapResults(name, args)) {
      return this.#take([name, this.#inReach(args, opResults(name, args))] as unknown as Call);
    }
    this.#calls.push(this.heldCall(name, args, (given) => this.#held.of(given)));
    return undefined;
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    this.#expectOpen();
    const id = this.#nextId++;
    const plan: AttentionPlan = new AttentionPlan(step, size, this.#heap, () => this.#freePlan(id));
    notePlan(plan, id);
    // The owner is told later, when the plan may have been freed.
    const blockTable = this.#tableOf(plan);
    this.#planTables.push(blockTable);
    this.#calls.push(["plan", { id, step: { ...plan.step, blockTable }, size: { ...size } }]);
    return plan;
  }

  #tableOf(plan: AttentionPlan): Tensor {
    try {
      return plan.step.blockTable.clone(this.#heap);
    } catch (error) {
      plan.free();
      throw error;
    }
  }

  #freePlan(id: number): void {
    if (!this.#closed) this.#calls.push(["freePlan", { id }]);
  }

  empty(dtype: DType, shape: readonly number[]): GpuTensor {
    this.#expectOpen();
    checkDType("empty", "dtype", dtype);
    checkShape("empty", "shape", shape);
    const id = this.#nextId++;
    const memory = new NumberedMemory(this.#group.rank, id, elementCount(shape) * DTYPE_BYTES[dtype]);
    this.#calls.push(["empty", { id, dtype, shape: [...shape] }]);
    let isFree = false;
    return new GpuTensor(memory, dtype, [...shape], undefined, 0, () => {
      if (!isFree && !this.#closed) this.#calls.push(["free", { id }]);
      isFree = true;
    });
  }

  upload(source: Tensor, target: Operand): Completion {
    this.#expectOpen();
    expectAlike("upload", "target", target, source);
    if (target.place === "heap") target.copyFrom(source);
    else this.#calls.push(["upload", this.#held.of({ source, target })]);
    return undefined;
  }

  download(source: Operand, target: Tensor): Completion {
    this.#expectOpen();
    expectAlike("download", "source", source, target);
    if (source.place === "device") {
      return this.#take(["download", this.#inReach({ source, target }, [target])]);
    }
    target.copyFrom(source);
    return undefined;
  }

  batch(run: () => void): Completion {
    this.#expectOpen();
    const outer = this.#batch;
    const batch = outer ?? { isCollective: false };
    const [calls, held, { isCollective }] = [this.#calls.length, this.#held.count, batch];
    const results = this.#results.length;
    this.#batch = batch;
    try {
      run();
    } catch (error) {
      // Memory that was made or freed stays so: its tensors are the caller's.
      this.#calls.push(...this.#calls.splice(calls).filter(isAboutMemory));
      this.#fences = this.#calls.filter(([name]) => name === FENCE[0]).length;
      this.#held.releaseFrom(held);
      this.#results.length = results;
      batch.isCollective = isCollective;
      throw error;
    } finally {
      this.#batch = outer;
    }
    if (outer === undefined && batch.isCollective) this.#run();
    return undefined;
  }

  get ranks(): readonly number[] {
    return this.#group.ranks;
  }

  fence(): Completion {
    this.#expectOpen();
    this.#calls.push(FENCE);
    this.#fences += 1;
    if (this.#batch === undefined && this.#fences >= FENCES_PER_RUN) this.#run();
    return undefined;
  }

  async show(make: () => readonly GpuTensor[]): Promise<readonly (readonly GpuTensor[])[]> {
    this.#expectOpen();
    const { rank } = this.#group;
    let tensors: readonly GpuTensor[] = [];
    let own: Parameters<typeof showTensors>[2];
    try {
      let made: { readonly failure: unknown } | undefined;
      try {
        tensors = make();
      } catch (failure) {
        made = { failure };
      }
      // The owner knows memory by its number once it was asked for it.
      this.#run("show");
      if (made !== undefined) throw made.failure;
      own = tensors.map((tensor) => {
        tensor.assertUsable("show", "tensors");
        return shownTensor(rank, idOf(tensor), tensor);
      });
    } catch (failure) {
      // The others do not show either.
      if (failure instanceof CallsDiffer) throw failure;
      own = { failure };
    }
    const shown = showTensors(this.#group, this.#heap, own, this.#deadlineMs);
    return shown.map((ofRank, of) => {
      if (of === rank) return tensors;
      return ofRank.map(({ id, memoryBytes, dtype, shape, strides, elementOffset }) => {
        const memory = new NumberedMemory(of, id, memoryBytes);
        return new GpuTensor(memory, dtype, shape, strides, elementOffset, () => undefined);
      });
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#calls = [];
    this.#held.release();
    this.#freePlanTables();
    this.#message.free();
  }

  /** A collective call: runs with all that came before it, or when its batch ends. */
  #take(call: Call): Completion {
    this.#calls.push(call);
    if (this.#batch === undefined) this.#run();
    else this.#batch.isCollective = true;
    return undefined;
  }

  /** Has the owner run what was called, together with what the other ranks called; waits until it has completed. */
  #run(called: Called = calledBy(this.#calls)): void {
    const deadlineMs = this.#deadlineMs;
    let isTold = false;
    try {
      const message = this.#write(this.#encoder.encode(called, this.#calls));
      meet(this.#group, "calls", message, () => undefined, deadlineMs);
      isTold = true;
      awaitVerdict(this.#group, this.#message.slice(0, 0, HEADER_BYTES), deadlineMs);
      for (const { copy, target } of this.#results) target.copyFrom(copy);
    } finally {
      // Memory that was made or freed stays so: the owner is told of it next time.
      this.#calls = isTold ? [] : this.#calls.filter(isAboutMemory);
      this.#fences = 0;
      this.#results = [];
      this.#held.release();
      if (isTold) this.#freePlanTables();
    }
  }

  #write(bytes: Uint8Array): Tensor {
    const size = HEADER_BYTES + bytes.length;
    if (size > this.#message.size) {
      const larger = Tensor.empty(this.#heap, "u8", [2 ** Math.ceil(Math.log2(size))]);
      this.#message.free();
      this.#message = larger;
    }
    const message = this.#message.slice(0, 0, size);
    writePurpose(message, "calls");
    message.bytes.set(bytes, HEADER_BYTES);
    return message;
  }

  /**
   * Arguments with copies in place of heap tensors that lie in a memory which the owner cannot reach.
   * @throws HeapExhausted: nothing is copied then
   */
  #inReach<T extends object>(args: T, results: readonly (Operand | undefined)[]): T {
    const { id } = this.#heap;
    const isFar = (value: unknown): value is Tensor => value instanceof Tensor && value.heap.id !== id;
    const copyOf = (tensor: Tensor): Tensor => {
      const copy = this.#held.keep(tensor.clone(this.#heap));
      if (results.includes(tensor)) this.#results.push({ copy, target: tensor });
      return copy;
    };
    const copies: [string, unknown][] = [];
    const [heldBefore, resultsBefore] = [this.#held.count, this.#results.length];
    try {
      for (const [name, value] of Object.entries(args)) {
        if (isFar(value)) copies.push([name, copyOf(value)]);
        else if (Array.isArray(value) && value.some(isFar)) {
          copies.push([name, value.map((part: unknown) => (isFar(part) ? copyOf(part) : part))]);
        }
      }
    } catch (error) {
      this.#held.releaseFrom(heldBefore);
      this.#results.length = resultsBefore;
      throw error;
    }
    return copies.length === 0 ? args : { ...args, ...Object.fromEntries(copies) };
  }

  #freePlanTables(): void {
    for (const table of this.#planTables) table.free();
    this.#planTables = [];
  }

  #expectOpen(): void {
    if (this.#closed) throw new BackendClosed(this.name);
  }
}

/** @throws ArgumentError unless the backends of a shared device gave the memory a number */
function idOf({ memory }: GpuTensor): number {
  if (memory instanceof NumberedMemory) return memory.id;
  throw new ArgumentError("show", "tensors", "of this backend's memory, made with `empty`", "one of another backend");
}
