/**
 * Worlds for programs that use Effect, on the host: worlds and groups are resources of a scope, failures are typed, and
 * an interruption gives up what is under way. The ranks know nothing of it: their workers load no Effect.
 *
 * @module @lockstep/dist-groups/effect
 */
import { type ArgumentError, type HeapExhausted, LockstepError } from "@lockstep/tensor";
import type * as Context from "effect/Context";
import * as Effect from "effect/Effect";
import * as Layer from "effect/Layer";
import type * as Scope from "effect/Scope";
import type { CallInterrupted, CallTimeout, RankCrashed, WorldClosed, WorldStartFailed } from "../errors/errors.ts";
import type {
  MethodArguments,
  MethodName,
  MethodResult,
  MethodsOf,
  Program,
  UntypedProgram,
} from "../rank/rank-context.ts";
import type { RenewedGroup } from "./group-lifecycle.ts";
import { openWorld as openPlainWorld, type World } from "./world.ts";
import type { WorldError } from "./world-error.ts";
import type { WorldGroup } from "./world-group.ts";
import type { CallOptions, CommonWorldOptions, RankCode } from "./world-options.ts";

export type { World } from "./world.ts";
export type { WorldError } from "./world-error.ts";
export type { WorldGroup } from "./world-group.ts";

/** `WorldOptions` without a signal: interrupting the fiber is what a signal is to the plain `openWorld`. */
export type ScopedWorldOptions<P extends Program = UntypedProgram> = Omit<CommonWorldOptions<P>, "signal"> &
  RankCode & { readonly signal?: undefined };

/** {@link CallOptions} without a signal: interrupting the fiber is what a signal is to a plain call. */
export type ScopedCallOptions = Omit<CallOptions, "signal"> & { readonly signal?: undefined };

/** What opening a world can fail with. */
export type OpenWorldError = ArgumentError | HeapExhausted | WorldStartFailed;

/**
 * Opens a world that lives as long as the scope. Interrupting the fiber while the world opens ends what has started,
 * and waits until it is gone. When an `onClose` callback fails, closing the scope dies of a `CloseFailed`.
 */
export const openWorld = <P extends Program = UntypedProgram>(
  options: ScopedWorldOptions<P>,
): Effect.Effect<World<MethodsOf<P>>, OpenWorldError, Scope.Scope> =>
  scoped((signal) => openPlainWorld<P>({ ...options, signal }));

/**
 * A layer that provides a world under a key of yours: `class Ranks extends Context.Service<Ranks,
 * World<...>>()("Ranks") {}`.
 */
export const worldLayer = <Identifier, P extends Program = UntypedProgram>(
  key: Context.Key<Identifier, World<MethodsOf<P>>>,
  options: ScopedWorldOptions<P>,
): Layer.Layer<Identifier, OpenWorldError> => Layer.effect(key, openWorld(options));

/**
 * `world.call(method, args, options)`: results in rank order. Interrupting the fiber gives the call up: one that no
 * rank has begun is cancelled, of one that has begun the groups of unfinished ranks abort.
 */
export const call = <M, K extends MethodName<M>>(
  world: World<M>,
  method: K,
  args: MethodArguments<M, K>,
  options?: ScopedCallOptions,
): Effect.Effect<MethodResult<M, K>[], WorldError> =>
  interruptible((signal) => world.call(method, args, { ...options, signal }));

/** `world.callRank(rank, method, args, options)`, interrupted like {@link call}. */
export const callRank = <M, K extends MethodName<M>>(
  world: World<M>,
  rank: number,
  method: K,
  args: MethodArguments<M, K>,
  options?: ScopedCallOptions,
): Effect.Effect<MethodResult<M, K>, WorldError> =>
  interruptible((signal) => world.callRank(rank, method, args, { ...options, signal }));

/** What making, renewing and closing groups can fail with. */
export type GroupError = ArgumentError | HeapExhausted | CallInterrupted | CallTimeout | RankCrashed | WorldClosed;

/**
 * `world.createGroup(name, ranks, options)`: a group that lives as long as the scope. Interrupting the fiber while the
 * ranks are asked to join gives the group up; its memory is free when those that have been asked have answered. When a
 * rank does not come out of what it does within the world's deadline, closing the scope dies of a `CallTimeout`.
 */
export const createGroup = <M>(
  world: World<M>,
  name: string,
  ranks: readonly number[],
  options?: ScopedCallOptions,
): Effect.Effect<WorldGroup, GroupError, Scope.Scope> =>
  scoped((signal) => world.createGroup(name, ranks, { ...options, signal }));

/** `world.renewGroups(options)`: new groups in place of aborted ones, such as those of an interrupted call. */
export const renewGroups = <M>(
  world: World<M>,
  options?: ScopedCallOptions,
): Effect.Effect<readonly RenewedGroup[], GroupError> =>
  interruptible((signal) => world.renewGroups({ ...options, signal }));

const INTERRUPTED = "its fiber was interrupted";

/** A failure is typed; anything else is a defect of the library. */
function failed<E extends LockstepError>(error: unknown): Effect.Effect<never, E> {
  return error instanceof LockstepError ? Effect.fail(error as E) : Effect.die(error);
}

/** What `ask` promises. Its signal fires when the fiber is interrupted, which settles the promise at once. */
function interruptible<A, E extends LockstepError>(ask: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, E> {
  return Effect.callback<A, E>((resume) => {
    const controller = new AbortController();
    ask(controller.signal).then(
      (value) => resume(Effect.succeed(value)),
      (error: unknown) => resume(failed(error)),
    );
    return Effect.sync(() => controller.abort(INTERRUPTED));
  });
}

/** Owns a resource from before it is opened, so that no interruption finds it without an owner. */
class Opening<R extends AsyncDisposable> implements AsyncDisposable {
  readonly #open: (signal: AbortSignal) => Promise<R>;
  readonly #controller = new AbortController();
  #resource: Promise<R> | undefined;

  constructor(open: (signal: AbortSignal) => Promise<R>) {
    this.#open = open;
  }

  /** Called once. */
  start(): Promise<R> {
    this.#resource = this.#open(this.#controller.signal);
    return this.#resource;
  }

  /** Idempotent, as disposing of the resource is. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(INTERRUPTED);
    // One that did not open has left nothing behind.
    const resource = await this.#resource?.catch(() => undefined);
    await resource?.[Symbol.asyncDispose]();
  }
}

/** A resource that lives as long as the scope. An interruption while it opens waits until nothing is left of it. */
function scoped<R extends AsyncDisposable, E extends LockstepError>(
  open: (signal: AbortSignal) => Promise<R>,
): Effect.Effect<R, E, Scope.Scope> {
  const dispose = (opening: Opening<R>): Effect.Effect<void> => Effect.promise(() => opening[Symbol.asyncDispose]());
  return Effect.acquireRelease(
    Effect.sync(() => new Opening(open)),
    dispose,
  ).pipe(
    Effect.flatMap((opening) =>
      Effect.callback<R, E>((resume) => {
        opening.start().then(
          (resource) => resume(Effect.succeed(resource)),
          (error: unknown) => resume(failed(error)),
        );
        return dispose(opening);
      }),
    ),
  );
}
