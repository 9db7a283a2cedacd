import type { SharedHeap } from "@lockstep/tensor";
import type { ProcessGroup } from "../group/process-group.ts";
import type { HostProcess } from "./host-process.ts";

/** What a program gets on each rank. */
export interface RankContext {
  /** Global rank, from 0. */
  readonly rank: number;
  /** Number of ranks in the world. */
  readonly size: number;
  /** Which process this rank runs in, and which ranks share a memory with it. */
  readonly hostProcess: HostProcess;
  /**
   * This rank's range of the memory that the ranks of its process share. Kernels, and those ranks, can read what is
   * allocated here; so can the host where `hostProcess.index` is 0.
   */
  readonly heap: SharedHeap;
  /** The group of all ranks. */
  readonly world: ProcessGroup;
  /** The group of that name this rank belongs to; throws an `ArgumentError` when there is none. */
  group(name: string): ProcessGroup;
  /**
   * Registers a callback that the world awaits before it ends this rank: release a GPU device here. Callbacks run one
   * after another, the last registered first.
   */
  onClose(release: () => void | Promise<void>): void;
}

/** A program module: what every rank runs. `setup` returns the methods that the host may call. */
export interface Program {
  /**
   * `export const concurrent = true` lets calls start while others are under way on the same rank, for programs whose
   * methods wait for other calls. By default the calls of a rank run one after another, in the order in which the host
   * made them.
   */
  readonly concurrent?: boolean;
  /**
   * Runs once on each rank when its world opens, with the `options` of `openWorld`. Returns the methods that `call`
   * calls.
   */
  setup(context: RankContext, options: never): object | Promise<object>;
}

/** A program whose methods are not known to the compiler. */
export interface UntypedProgram {
  /** Whether calls of its methods may overlap. */
  readonly concurrent?: boolean;
  /** As of a {@link Program}, whose methods and `options` are not known. */
  setup(context: RankContext, options: never): Record<string, (...args: unknown[]) => unknown>;
}

/** The methods of a program module: `MethodsOf<typeof import("./program.ts")>`. */
export type MethodsOf<P extends Program> = Awaited<ReturnType<P["setup"]>>;

/** The options that a program's `setup` takes; undefined when it takes none. */
export type OptionsOf<P extends Program> =
  Parameters<P["setup"]> extends [unknown, infer O, ...unknown[]] ? O : undefined;

/** Names of a program's methods. */
export type MethodName<M> = { [K in keyof M]: M[K] extends (...args: never[]) => unknown ? K : never }[keyof M] &
  string;

/** Parameters of a method; they are structured-cloned. */
export type MethodArguments<M, K extends keyof M> = M[K] extends (...args: infer A) => unknown ? A : never;

/** What a method returns, awaited and structured-cloned. */
export type MethodResult<M, K extends keyof M> = M[K] extends (...args: never[]) => infer R ? Awaited<R> : never;
