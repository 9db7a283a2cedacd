import { ArgumentError, describe, RUNTIME, SharedHeap } from "@lockstep/tensor";
import { GroupAborted, RankCrashed, WorldClosed } from "../errors/errors.ts";
import { toPlainError } from "../errors/plain-error.ts";
import { isInstance, printedValue } from "../errors/printed-value.ts";
import { BlockingGroup } from "../group/blocking-group.ts";
import { CollectiveRun } from "../group/collective-run.ts";
import type { ProcessGroup } from "../group/process-group.ts";
import { instantiateReduceKernels, type ReduceKernels } from "../reduction/reduce.ts";
import { MpiRank } from "../transport/mpi/rank-end.ts";
import { SharedMemoryRank } from "../transport/shared-memory/rank-end.ts";
import type { RankHealth, RankTransport } from "../transport/world-transport.ts";
import { boundBlockingWaits } from "./blocking-wait.ts";
import type { HostProcess } from "./host-process.ts";
import type { RankContext } from "./rank-context.ts";
import { watchForDeath } from "./rank-death.ts";
import type { HostPort } from "./host-port.ts";
import { hasSetup } from "./program-module.ts";
import type { RankPlace } from "./rank-place.ts";
import type { GroupDescriptor, RankConfiguration, Reply, StartedProgram } from "./rank-protocol.ts";

const HEARTBEAT_MS = 250;

interface Membership {
  readonly generation: number;
  readonly run: CollectiveRun;
  readonly group: ProcessGroup;
}

/** One rank: its groups, its program's methods, its onClose callbacks. */
export class RunningRank {
  readonly rank: number;
  readonly size: number;
  readonly heap: SharedHeap;
  readonly #hostProcess: HostProcess;
  readonly #host: HostPort;
  readonly #transport: RankTransport;
  readonly #health: RankHealth;
  readonly #kernels: ReduceKernels;
  readonly #memberships = new Map<string, Membership>();
  readonly #releases: (() => void | Promise<void>)[] = [];
  #closing = false;
  #methods: Readonly<Record<string, unknown>> = {};

  constructor(configuration: RankConfiguration, place: RankPlace, host: HostPort) {
    const { rank, size } = configuration;
    const { memory, memoryId, heap, reduceKernels } = place;
    this.rank = rank;
    this.size = size;
    this.#hostProcess = configuration.hostProcess;
    this.#host = host;
    this.heap = SharedHeap.range(memoryId, memory, heap.start, heap.bytes, true);
    this.#transport = rankTransport(rank, place);
    this.#health = this.#transport.health;
    this.#kernels = instantiateReduceKernels(reduceKernels as WebAssembly.Module, memory as WebAssembly.Memory);
    for (const descriptor of configuration.groups) this.#enter(descriptor);
    watchForDeath((error) => this.#die(error), rank);
    // Elsewhere terminate() ends a worker in mid-wait.
    if (RUNTIME === "deno") {
      const hasEnded = (): boolean => this.#health.isClosed || this.#health.hasExited(rank);
      boundBlockingWaits(hasEnded, () => new WorldClosed("Atomics.wait"));
    }
    setInterval(() => this.#health.beat(rank), HEARTBEAT_MS);
  }

  /** What the program sees. */
  get context(): RankContext {
    const find = (name: string): ProcessGroup => this.group(name);
    return {
      rank: this.rank,
      size: this.size,
      hostProcess: this.#hostProcess,
      heap: this.heap,
      get world() {
        return find("world");
      },
      group: find,
      onClose: (release) => {
        if (this.#closing) throw new WorldClosed("context.onClose");
        if (typeof release !== "function") {
          throw new ArgumentError("context.onClose", "release", "a function", describe(release));
        }
        if (this.#releases.length === 0) this.#host.postMessage({ lockstep: "holding" });
        this.#releases.push(release);
      },
    };
  }

  /** The host's end of the transport told something. */
  hear(news: unknown): void {
    this.#transport.hear(news);
  }

  group(name: string): ProcessGroup {
    const membership = this.#memberships.get(name);
    if (membership === undefined) {
      const known = [...this.#memberships.keys()].map((known) => `"${known}"`).join(", ");
      throw new ArgumentError("context.group", "name", `a group of rank ${this.rank}: ${known}`, describe(name));
    }
    return membership.group;
  }

  async join(descriptor: GroupDescriptor): Promise<void> {
    const replaced = this.#memberships.get(descriptor.name);
    this.#enter(descriptor);
    if (replaced !== undefined) await leave(replaced, "replaced");
  }

  #enter(descriptor: GroupDescriptor): void {
    const { ranks, generation, place } = descriptor;
    const transport = this.#transport.join(ranks, place);
    const run = new CollectiveRun(descriptor, transport, this.#health);
    const group = new BlockingGroup(run, transport, this.#kernels, this.heap);
    this.#memberships.set(descriptor.name, { generation, run, group });
  }

  async leaveGroup(generation: number, because: "closed" | "replaced"): Promise<void> {
    for (const [name, membership] of this.#memberships) {
      if (membership.generation !== generation) continue;
      this.#memberships.delete(name);
      await leave(membership, because);
    }
  }

  /** Runs the `setup` of the program; `name` is what errors call it. */
  async setUp(name: string, module: unknown, options: unknown): Promise<StartedProgram> {
    if (!hasSetup(module)) {
      throw new ArgumentError("openWorld", "program", "a module that exports a function `setup`", name);
    }
    const methods = await module.setup(this.context, options);
    if (typeof methods !== "object" || methods === null) {
      throw new ArgumentError(
        "openWorld",
        "program",
        "a module whose `setup` returns an object of methods",
        printedValue(methods),
      );
    }
    this.#methods = methods as Readonly<Record<string, unknown>>;
    return { concurrent: module.concurrent === true };
  }

  async invoke(method: string, args: readonly unknown[], callWord: number | undefined): Promise<unknown> {
    if (callWord !== undefined && !this.#health.beginCall(callWord)) return undefined;
    const target = this.#methods[method];
    // What every object has is no method of the program, unless it is its own.
    const isInherited = target === Reflect.get(Object.prototype, method);
    if (typeof target !== "function" || isInherited) {
      const known = Object.keys(this.#methods).join(", ");
      throw new ArgumentError("world.call", "method", `a method of the program: ${known}`, method);
    }
    return await target.apply(this.#methods, args);
  }

  /** Runs the work of a control call and turns what it throws into data; peers that wait for this rank are told. */
  async reply(what: string, work: () => unknown): Promise<Reply> {
    this.#health.countRunning(this.rank, 1);
    try {
      return { ok: true, value: await work() };
    } catch (error) {
      this.#leave(this.#failure(what, error));
      return { ok: false, error: toPlainError(error) };
    } finally {
      this.#health.countRunning(this.rank, -1);
    }
  }

  /** Why peers will not see this rank: the crash that started it all, when this rank only fell with its group. */
  #failure(what: string, error: unknown): RankCrashed {
    if (isInstance(error, GroupAborted) && error.cause instanceof RankCrashed) return error.cause;
    return new RankCrashed(this.rank, `${what} threw ${printedValue(error)}`, error);
  }

  /** What this rank answered cannot be copied to the host. */
  uncopied(reason: unknown): RankCrashed {
    const crash = new RankCrashed(
      this.rank,
      `its answer cannot be copied to the host (${printedValue(reason)}). ` +
        "Return data: no functions, symbols or proxies",
      reason,
    );
    this.#leave(crash);
    return crash;
  }

  /** Tells peers that this rank will not take part in what they are doing. */
  #leave(crash: RankCrashed): void {
    this.#health.leave(this.rank, crash);
    for (const { run } of this.#memberships.values()) run.nudgePeers();
  }

  #die(error: RankCrashed): void {
    this.#health.exit(this.rank, error);
    for (const { run } of this.#memberships.values()) run.abort(error);
    this.#host.postMessage({ lockstep: "crashed", error: toPlainError(error) });
  }

  async close(): Promise<void> {
    this.#closing = true;
    const failures: unknown[] = [];
    for (const release of this.#releases.splice(0).reverse()) {
      try {
        await release();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

function rankTransport(rank: number, { transport, memory, memoryId, cores }: RankPlace): RankTransport {
  return transport.kind === "mpi"
    ? new MpiRank(rank, memoryId, memory, transport)
    : new SharedMemoryRank(rank, memory.buffer, cores, transport);
}

async function leave({ run }: Membership, because: "closed" | "replaced"): Promise<void> {
  await run.idle();
  if (because === "closed") run[Symbol.dispose]();
  else run.supersede();
}
