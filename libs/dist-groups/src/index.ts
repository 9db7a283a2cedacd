/**
 * Worlds of ranks, which are Web Workers over one shared memory, and collectives among them, all of whose waits have a
 * deadline. Begin with {@link openWorld}.
 *
 * @module @lockstep/dist-groups
 */
export { registerErrorClass } from "@lockstep/tensor";
export type { AgreedFields, AgreedValue } from "./collectives/agreed-options.ts";
export type {
  CollectiveOptions,
  DimOptions,
  GatherOptions,
  ReadOptions,
  ReductionOptions,
} from "./collectives/options.ts";
export {
  CallInterrupted,
  CallTimeout,
  CloseFailed,
  CollectiveMismatch,
  type CollectiveSide,
  CollectiveTimeout,
  GroupAborted,
  GroupDestroyed,
  type OptionDisagreement,
  type OptionSide,
  OptionsDisagree,
  RankCrashed,
  RankMisplaced,
  ReentrantCollective,
  RemoteError,
  type RemoteTag,
  WorldClosed,
  WorldStartFailed,
} from "./errors/errors.ts";
export { MpiFailed, MpiNotFound, MpiUnsuitable } from "./errors/mpi-errors.ts";
export { fromPlainError, type PlainError, toPlainError } from "./errors/plain-error.ts";
export type { PlainValue } from "./errors/plain-value.ts";
export { formatFlightRecord } from "./flight-record/flight-record.ts";
export type { AsyncProcessGroup, GroupCounters, ProcessGroup } from "./group/process-group.ts";
export { chunkStart, type HeadRange, headRange } from "./layout/chunk-rule.ts";
export { type ParallelGroups, type ParallelSizes, parallelGroups } from "./layout/parallel-groups.ts";
export type { HostProcess } from "./rank/host-process.ts";
export type {
  MethodArguments,
  MethodName,
  MethodResult,
  MethodsOf,
  OptionsOf,
  Program,
  RankContext,
  UntypedProgram,
} from "./rank/rank-context.ts";
export type { Determinism, Reduction } from "./wire/collective-header.ts";
export type { FlightOp, FlightRecord, GroupFlight, RankFlight } from "./wire/flight-types.ts";
export type { AbortSignalLike } from "./world/abort-signal-like.ts";
export type { RenewedGroup } from "./world/group-lifecycle.ts";
export { placementOf, type WorldPlacement } from "./world/placement.ts";
export { controlBytes } from "./site/memory-layout.ts";
export type {
  ModuleAddress,
  NodeWorkerLike,
  RankWorkerSource,
  WebWorkerLike,
  WorkerLike,
} from "./site/worker-like.ts";
export { joinJob } from "./job/join-job.ts";
export { openWorld, World } from "./world/world.ts";
export type { WorldError } from "./world/world-error.ts";
export type { WorldGroup } from "./world/world-group.ts";
export type {
  CallOptions,
  CommonWorldOptions,
  OpeningWorld,
  RankCode,
  WorldOptions,
} from "./world/world-options.ts";
