// What a rank that shares nothing with its peers runs: a program as any other, in a context of its own.

import { ArgumentError, SharedHeap } from "@lockstep/tensor";
import { GroupAborted, RankCrashed } from "../../src/errors/errors.ts";
import { printedValue } from "../../src/errors/printed-value.ts";
import { BlockingGroup } from "../../src/group/blocking-group.ts";
import { CollectiveRun } from "../../src/group/collective-run.ts";
import type { GroupSettings } from "../../src/group/group-settings.ts";
import type { ProcessGroup } from "../../src/group/process-group.ts";
import { hostProcessOf } from "../../src/rank/host-process.ts";
import type { Program, RankContext } from "../../src/rank/rank-context.ts";
import { compileReduceKernels, instantiateReduceKernels } from "../../src/reduction/reduce.ts";
import { controlBytes } from "../../src/site/memory-layout.ts";
import { PipeTransport, pipeWords } from "../transport-conformance/pipe-transport.ts";
import type { Peers } from "./peers.ts";
import { expectPlain } from "./plain-data.ts";

/** Small, so that both protocols are used. */
const STAGING_BYTES = 4096;
const DEADLINE_MS = 30_000;
const LINE_BYTES = 128;

type Methods = Record<string, (...args: readonly unknown[]) => unknown>;

/** A pipe of ranks whose host has the real group: what ends that ends this. */
class GovernedPipe extends PipeTransport {
  readonly #governing: ProcessGroup;

  constructor(governing: ProcessGroup, ...args: ConstructorParameters<typeof PipeTransport>) {
    super(...args);
    this.#governing = governing;
  }

  override get isAborted(): boolean {
    if (this.#governing.isAborted && !super.isAborted) this.abort(causeOf(this.#governing));
    return super.isAborted;
  }
}

function causeOf(aborted: ProcessGroup): Error {
  try {
    aborted.barrier();
  } catch (error) {
    if (error instanceof GroupAborted && error.cause instanceof Error) return error.cause;
    if (error instanceof Error) return error;
  }
  return new Error(`group "${aborted.name}" is aborted`);
}

/** Aborts a group, which ranks cannot do on purpose. */
function endByTimeout(group: ProcessGroup): void {
  try {
    group.barrier({ deadlineMs: 1 });
  } catch {
    // It has ended.
  }
}

/** A group over pipes, and the real one that it stands for. */
interface ApartGroup {
  readonly governing: ProcessGroup;
  /** From 1: how often the real group was made anew. */
  readonly generation: number;
  readonly group: ProcessGroup;
  readonly transport: PipeTransport;
}

/** Where everything lies in the memory of each rank: at the same places, as records of staged tensors want it. */
class ApartMemory {
  readonly heap: SharedHeap;
  readonly #landings: SharedHeap;
  readonly #rooms: SharedHeap;

  constructor({ rank, size, heap }: RankContext) {
    const first = heap.start - rank * heap.totalBytes;
    const { id, memory } = rank === 0 ? heap : SharedHeap.create(heap.buffer.byteLength);
    const rooms = LINE_BYTES + controlBytes(size) / 2;
    this.heap = rank === 0 ? heap : SharedHeap.range(id, memory, first, heap.totalBytes, true);
    // In the world's memory other ranks' heaps would lie here, and more control blocks than a test makes.
    this.#landings = SharedHeap.range(id, memory, first + heap.totalBytes, (size - 1) * heap.totalBytes);
    this.#rooms = SharedHeap.range(id, memory, rooms, controlBytes(size) / 2);
  }

  /** Where slices of a group of so many ranks land: a quarter of what there is. */
  landings(ranks: number): SharedHeap {
    const { id, memory, start, totalBytes } = this.#landings;
    const bytes = ranks === 1 ? 0 : Math.floor(totalBytes / 4 / LINE_BYTES) * LINE_BYTES;
    return SharedHeap.range(id, memory, ranks === 1 ? start : this.#landings.allocate(bytes), bytes);
  }

  /** The room number `index` for what a group of at most `size` ranks announces. */
  room(index: number, size: number): number {
    const bytes = Math.ceil((pipeWords(size, STAGING_BYTES) * 4) / LINE_BYTES) * LINE_BYTES;
    const { start, totalBytes } = this.#rooms;
    if ((index + 1) * bytes > totalBytes) throw new RangeError(`no room for ${index + 1} groups`);
    return start + index * bytes;
  }
}

/** The groups of a rank, over pipes in place of the real ones. */
class ApartGroups {
  readonly #context: RankContext;
  readonly #memory: ApartMemory;
  readonly #kernels: WebAssembly.Module;
  readonly #peers: Peers;
  readonly #names: readonly string[];
  readonly #openedAt = performance.now();
  readonly #made = new Map<string, ApartGroup>();

  /** `names` of the groups that any rank is in, the same on every rank. */
  constructor(
    context: RankContext,
    memory: ApartMemory,
    kernels: WebAssembly.Module,
    peers: Peers,
    names: readonly string[],
  ) {
    this.#context = context;
    this.#memory = memory;
    this.#kernels = kernels;
    this.#peers = peers;
    this.#names = names;
    // All ranks make them together, whichever of them their program uses.
    for (const name of names) if (this.#governing(name) !== undefined) this.group(name);
  }

  group(name: string): ProcessGroup {
    const governing = this.#context.group(name);
    const known = this.#made.get(name);
    if (known?.governing === governing) return known.group;
    const made = this.#make(name, governing, (known?.generation ?? 0) + 1);
    this.#made.set(name, made);
    return made.group;
  }

  /** Another call: what peers failed in before does not matter to it. */
  forgive(): void {
    for (const { transport } of this.#made.values()) transport.forgive();
  }

  /** Tells the peers that this rank came out of a call with a failure, and the host which groups that has ended. */
  leave(failure: Error): void {
    for (const { transport, governing } of this.#made.values()) {
      transport.leave(failure);
      if (transport.isAborted && !governing.isAborted) endByTimeout(governing);
    }
  }

  /** The real group; undefined where this rank is in none. */
  #governing(name: string): ProcessGroup | undefined {
    try {
      return this.#context.group(name);
    } catch (error) {
      if (error instanceof ArgumentError) return undefined;
      throw error;
    }
  }

  #make(name: string, governing: ProcessGroup, generation: number): ApartGroup {
    const { rank, size } = this.#context;
    const { heap } = this.#memory;
    const { ranks } = governing;
    const settings: GroupSettings = {
      name,
      generation,
      ranks,
      stagedLimit: STAGING_BYTES,
      stagedAllReduceLimit: STAGING_BYTES,
      deadlineMs: DEADLINE_MS,
    };
    const transport = new GovernedPipe(
      governing,
      ranks.indexOf(rank),
      this.#peers.open(`${name} ${generation}`, rank, ranks),
      new MessageChannel().port1,
      this.#memory.room((generation - 1) * this.#names.length + this.#names.indexOf(name), size),
      STAGING_BYTES,
      this.#memory.landings(ranks.length),
    );
    const worldTime = (now: number): number => Math.max(0, Math.round(now - this.#openedAt));
    const run = new CollectiveRun(settings, transport, { worldTime, coarseTime: () => 0 });
    const group = new BlockingGroup(run, transport, instantiateReduceKernels(this.#kernels, heap.memory), heap);
    return { governing, generation, group, transport };
  }
}

/** A program that runs another one, which the host names, apart from its peers. */
export function apartProgram(peers: Peers): Program {
  return {
    async setup(context: RankContext, options: never): Promise<Methods> {
      const { program, groups: named } = await peers.introduction;
      expectPlain("options", options);
      const { rank, size } = context;
      await peers.met(size - 1);
      const memory = new ApartMemory(context);
      const groups = new ApartGroups(context, memory, await compileReduceKernels(), peers, ["world", ...named]);
      const everyone = Array.from({ length: size }, (_, other) => [other]);
      const inner: Program = await import(program);
      const methods = await inner.setup(
        {
          rank,
          size,
          hostProcess: hostProcessOf(rank, everyone),
          heap: memory.heap,
          get world() {
            return groups.group("world");
          },
          group: (name) => groups.group(name),
          onClose: (release) => context.onClose(release),
        },
        options,
      );
      return Object.fromEntries(
        Object.entries(methods).map(([name, method]) => [name, governed(rank, groups, name, methods, method)]),
      );
    },
  };
}

/** A method whose arguments and result could travel between processes, and whose failure the peers learn of. */
function governed(
  rank: number,
  groups: ApartGroups,
  name: string,
  methods: object,
  method: Methods[string],
): Methods[string] {
  return async (...args) => {
    groups.forgive();
    try {
      expectPlain(`the arguments of ${name}`, args);
      const result = await method.apply(methods, [...args]);
      expectPlain(`what ${name} returned`, result);
      return result;
    } catch (error) {
      const cause = error instanceof GroupAborted ? error.cause : undefined;
      const crash = new RankCrashed(rank, `${name} threw ${printedValue(error)}`, error);
      groups.leave(cause instanceof RankCrashed ? cause : crash);
      throw error;
    }
  };
}
