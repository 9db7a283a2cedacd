import type { ArgumentError, HeapExhausted, SharedHeap } from "@lockstep/tensor";
import type * as Context from "effect/Context";
import * as Effect from "effect/Effect";
import * as Exit from "effect/Exit";
import * as Layer from "effect/Layer";
import * as Scope from "effect/Scope";
import type {
  CallInterrupted,
  CallTimeout,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  RankCrashed,
  ReentrantCollective,
  RemoteError,
  WorldClosed,
  WorldStartFailed,
} from "../errors/errors.ts";
import type {
  MethodArguments,
  MethodName,
  MethodResult,
  MethodsOf,
  OptionsOf,
  Program,
  UntypedProgram,
} from "../rank/rank-context.ts";
import type { KernelsNotBuilt } from "../reduction/reduce.ts";
import type { FlightRecord } from "../wire/flight-types.ts";
import { checkWorldOptions } from "./check-world-options.ts";
import { onAbort } from "./follow-signal.ts";
import type { RenewedGroup } from "./group-lifecycle.ts";
import type { PendingCall } from "./pending-call.ts";
import { WorldHost } from "./world-host.ts";

const DEFAULT_DEADLINE_MS = 30_000;
const DEFAULT_START_DEADLINE_MS = 60_000;
const DEFAULT_CLOSE_DEADLINE_MS = 5_000;

/** What a world is made of. */
export interface WorldOptions<P extends Program = UntypedProgram> {
  /** Number of ranks, 1 to 255. */
  readonly size: number;
  /** Module that every rank runs: `new URL("./program.ts", import.meta.url)`. It exports `setup(context, options)`. */
  readonly program: URL | string;
  /** Given to `setup` on every rank, structured-cloned. */
  readonly options?: OptionsOf<P> | undefined;
  /** Bytes of each rank's heap. Reserved, not resident. Default 256 MiB, or less when the ranks would not fit 4 GiB. */
  readonly heapBytesPerRank?: number | undefined;
  /** Bytes of the host's own heap. Default: like a rank's, at most 256 MiB. */
  readonly heapBytesHost?: number | undefined;
  /** Named partitions of the ranks: each rank finds its own group by `context.group(name)`. "world" always exists. */
  readonly groups?: Readonly<Record<string, readonly (readonly number[])[]>> | undefined;
  /** Default deadline of calls and of collectives, in milliseconds. Default 30 000. */
  readonly deadlineMs?: number | undefined;
  /** Deadline of the start: workers, program, `setup`. Default 60 000 ms. */
  readonly startDeadlineMs?: number | undefined;
  /** Gives the opening up when it fires: it fails with `CallInterrupted`, and what had started is gone. */
  readonly signal?: AbortSignal | undefined;
  /** How long closing waits for `onClose` callbacks. Default 5 000 ms. */
  readonly closeDeadlineMs?: number | undefined;
  /** Bytes of a staging area in a group's control block; each rank of a group has two. Default 65 536. For tuning. */
  readonly stagingBytes?: number | undefined;
  /**
   * Largest message, in bytes that a rank brings, that a collective stages in its control block instead of letting
   * peers read it where it lies; from 0 to `stagingBytes`. Default: 8 KiB (2 KiB of an all-reduce), or 64 KiB with more
   * ranks than cores. For tuning: results are the same bits.
   */
  readonly stagedLimit?: number | undefined;
  /** Where progress words start counting. Default 0. For tests of their wrap-around. */
  readonly initialProgress?: number | undefined;
}

/** Options of a call. */
export interface CallOptions {
  /** Deadline in milliseconds, from when the calls before it are over. Default: the world's. */
  readonly deadlineMs?: number | undefined;
  /**
   * Gives the call up when it fires: the call rejects with `CallInterrupted`. A call that no rank has begun is
   * cancelled, and nothing else happens; of one that has begun, the groups of unfinished ranks abort (`renewGroups` is
   * the way back).
   */
  readonly signal?: AbortSignal | undefined;
}

/**
 * N ranks, each a Web Worker, over one shared memory. `M` are the methods of the program they run.
 *
 * A call runs a method on every rank (or on one) and settles when all have answered. When a rank fails, the call
 * rejects with the first cause: a typed error that a method threw keeps its type and gets a `rank`; any other throw, an
 * exit or an unhandled rejection is `RankCrashed`. A call that misses its deadline is `CallTimeout`, an interrupted one
 * `CallInterrupted`; both abort the groups of the ranks that have not answered, which frees these from their
 * collectives; a call that has not begun on any rank is cancelled without harm.
 *
 * Calls on one rank run one after another, in the order in which they are made: a call starts on its ranks when earlier
 * calls that share a rank with it are over. A program that takes calls while others are under way says `export const
 * concurrent = true`.
 */
export class World<M = MethodsOf<UntypedProgram>> implements AsyncDisposable {
  readonly #host: WorldHost;

  /** Use {@link openWorld} or {@link makeWorld}. */
  constructor(host: WorldHost) {
    this.#host = host;
  }

  /** Number of ranks. */
  get size(): number {
    return this.#host.size;
  }

  /** The host's own range of the shared memory: what is allocated here every rank can read. */
  get heap(): SharedHeap {
    this.#host.checkOpen("world.heap");
    return this.#host.heap;
  }

  /** Calls a method with the same arguments on every rank; results in rank order. */
  call<K extends MethodName<M>>(
    method: K,
    args: MethodArguments<M, K>,
    options?: CallOptions,
  ): Promise<MethodResult<M, K>[]> {
    return this.#promise<K>(this.#host.ranks, method, args, options);
  }

  /** Calls a method on one rank. */
  async callRank<K extends MethodName<M>>(
    rank: number,
    method: K,
    args: MethodArguments<M, K>,
    options?: CallOptions,
  ): Promise<MethodResult<M, K>> {
    const [result] = await this.#promise<K>([rank], method, args, options);
    return result as MethodResult<M, K>;
  }

  /** {@link World.call} as an Effect. Interrupting its fiber is what a signal is to `call`. */
  callEffect<K extends MethodName<M>>(
    method: K,
    args: MethodArguments<M, K>,
    options?: Pick<CallOptions, "deadlineMs">,
  ): Effect.Effect<MethodResult<M, K>[], WorldError> {
    return asEffect(() => this.#host.call(method, this.#host.ranks, args, options));
  }

  /** {@link World.callRank} as an Effect. */
  callRankEffect<K extends MethodName<M>>(
    rank: number,
    method: K,
    args: MethodArguments<M, K>,
    options?: Pick<CallOptions, "deadlineMs">,
  ): Effect.Effect<MethodResult<M, K>, WorldError> {
    return asEffect<MethodResult<M, K>[]>(() => this.#host.call(method, [rank], args, options)).pipe(
      Effect.map(([result]) => result as MethodResult<M, K>),
    );
  }

  /**
   * What every rank has done of late, per group: its last 256 collectives, the oldest first. Reads shared memory, so it
   * works while ranks are stuck or gone, and nobody notices. `formatFlightRecord` makes a table of it.
   */
  flightRecord(): FlightRecord {
    return this.#host.flightRecord();
  }

  /**
   * Makes a new group of living ranks, in the given order; on these ranks `context.group(name)` returns it from then
   * on. The name may be one of aborted groups, "world" included; theirs are retired.
   */
  async createGroup(name: string, ranks: readonly number[], options?: CallOptions): Promise<void> {
    await this.#host.createGroup(name, ranks, options);
  }

  /**
   * Ends every group of that name for good: collectives under way and to come throw `GroupAborted`,
   * `context.group(name)` no longer finds it, and its part of the memory is free again. The group "world" cannot be
   * destroyed.
   */
  async destroyGroup(name: string, options?: CallOptions): Promise<void> {
    await this.#host.destroyGroup(name, options);
  }

  /**
   * The way back after an aborted collective (a signal, a timeout, a mismatch, a throw): makes a new group with the
   * same name and ranks in place of every aborted one whose ranks all live, "world" included, and returns them. The
   * ranks keep all their state: their heap, their tensors, what the program keeps. On them `context.world` and
   * `context.group(name)` are the new groups from then on; handles of the old ones stay aborted, so a program takes
   * them anew. Waits for the ranks to come out of the call that failed. Groups of dead ranks stay aborted:
   * `createGroup` makes one over the ranks that are left.
   */
  async renewGroups(options?: CallOptions): Promise<readonly RenewedGroup[]> {
    return this.#host.renewGroups(options);
  }

  /**
   * Ends one rank at once, as a crash would: its groups abort, calls that wait for it reject with `RankCrashed`. For a
   * rank that does not come back, and for testing how a program takes a crash. In Deno a worker that loops in user code
   * cannot be stopped: it no longer counts, but it keeps its core until the process exits.
   */
  terminateRank(rank: number): Promise<void> {
    return this.#host.terminateRank(rank, "the host terminated it");
  }

  /**
   * Ends the world: aborts what is going on, awaits every rank's `onClose` callbacks, ends the workers. Idempotent.
   * When a callback failed, rejects with `CloseFailed` after everything is gone.
   */
  close(): Promise<void> {
    return this.#host.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #promise<K extends MethodName<M>>(
    ranks: readonly number[],
    method: K,
    args: MethodArguments<M, K>,
    options: CallOptions | undefined,
  ): Promise<MethodResult<M, K>[]> {
    const call = this.#host.call(method, ranks, args, options);
    using _listening = onAbort(options?.signal, (reason) => call.interrupt(reason));
    return (await call.promise) as MethodResult<M, K>[];
  }
}

/**
 * What opening and calling a world can fail with. Typed errors that a program's methods throw come as their own class
 * when it is defined on this thread too, also when that happens later; else as `RemoteError` with the original's tag.
 */
export type WorldError =
  | ArgumentError
  | HeapExhausted
  | KernelsNotBuilt
  | CallInterrupted
  | CallTimeout
  | CollectiveMismatch
  | CollectiveTimeout
  | GroupAborted
  | RankCrashed
  | ReentrantCollective
  | RemoteError
  | WorldClosed
  | WorldStartFailed;

function asEffect<T>(start: () => PendingCall): Effect.Effect<T, WorldError> {
  return Effect.callback<T, WorldError>((resume) => {
    let call: PendingCall;
    try {
      call = start();
    } catch (error) {
      resume(Effect.fail(error as WorldError));
      return undefined;
    }
    call.promise.then(
      (values) => resume(Effect.succeed(values as T)),
      (error: WorldError) => resume(Effect.fail(error)),
    );
    return Effect.sync(() => call.interrupt("its fiber was interrupted"));
  });
}

async function start(host: WorldHost, signal: AbortSignal | undefined): Promise<void> {
  using _listening = onAbort(signal, (reason) => host.interrupt(reason));
  await host.start();
}

/** Opens a world that lives as long as the scope. Interruption while it starts ends what has started. */
export const makeWorld = <P extends Program = UntypedProgram>(
  options: WorldOptions<P>,
): Effect.Effect<World<MethodsOf<P>>, WorldError, Scope.Scope> =>
  Effect.gen(function* () {
    const host = yield* Effect.acquireRelease(
      Effect.try({ try: () => new WorldHost(settingsOf(options)), catch: (error) => error as WorldError }),
      (opened) => Effect.promise(() => opened.close()),
    );
    yield* Effect.callback<void, WorldError>((resume) => {
      start(host, options.signal).then(
        () => resume(Effect.void),
        (error: WorldError) => resume(Effect.fail(error)),
      );
      return Effect.sync(() => host.interrupt("its fiber was interrupted"));
    });
    return new World<MethodsOf<P>>(host);
  });

/**
 * A layer that provides a world under a key of yours: `class Ranks extends Context.Service<Ranks,
 * World<...>>()("Ranks") {}`.
 */
export const worldLayer = <Identifier, P extends Program = UntypedProgram>(
  key: Context.Key<Identifier, World<MethodsOf<P>>>,
  options: WorldOptions<P>,
): Layer.Layer<Identifier, WorldError> => Layer.effect(key, makeWorld(options));

/** Opens a world for those who don't use Effect: `await using world = await openWorld({ ... })`. */
export async function openWorld<P extends Program = UntypedProgram>(
  options: WorldOptions<P>,
): Promise<World<MethodsOf<P>>> {
  const scope = Scope.makeUnsafe();
  try {
    return await Effect.runPromise(Scope.provide(makeWorld(options), scope));
  } catch (error) {
    // The first error is the one to tell, whatever happens while cleaning up.
    await Effect.runPromiseExit(Scope.close(scope, Exit.void));
    throw error;
  }
}

function settingsOf<P extends Program>(options: WorldOptions<P>): ConstructorParameters<typeof WorldHost>[0] {
  checkWorldOptions(options);
  return {
    size: options.size,
    program: options.program,
    options: options.options,
    heapBytesPerRank: options.heapBytesPerRank,
    heapBytesHost: options.heapBytesHost,
    groups: options.groups ?? {},
    deadlineMs: options.deadlineMs ?? DEFAULT_DEADLINE_MS,
    startDeadlineMs: options.startDeadlineMs ?? DEFAULT_START_DEADLINE_MS,
    closeDeadlineMs: options.closeDeadlineMs ?? DEFAULT_CLOSE_DEADLINE_MS,
    stagingBytes: options.stagingBytes,
    stagedLimit: options.stagedLimit,
    initialProgress: options.initialProgress,
  };
}
