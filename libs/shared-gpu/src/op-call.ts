import {
  type AttentionStep,
  type Completion,
  type KernelBackend,
  type OfEveryOp,
  type OpArguments,
  type OpName,
  type Operand,
  opResults,
  type PagedCacheSize,
} from "@lockstep/kernels";
import type { DType, Tensor } from "@lockstep/tensor";

/** An op to run, with its arguments. */
export type OpCall = { readonly [Name in OpName]: readonly [name: Name, args: OpArguments[Name]] }[OpName];

/** What else is asked of the rank that holds the device: memory of a number, its contents, and plans of a number. */
export type MemoryCall =
  | readonly [name: "empty", args: { readonly id: number; readonly dtype: DType; readonly shape: readonly number[] }]
  | readonly [name: "free", args: { readonly id: number }]
  | readonly [name: "plan", args: { readonly id: number; readonly step: AttentionStep; readonly size: PagedCacheSize }]
  | readonly [name: "freePlan", args: { readonly id: number }]
  | readonly [name: "upload", args: { readonly source: Tensor; readonly target: Operand }]
  | readonly [name: "download", args: { readonly source: Operand; readonly target: Tensor }];

/** Parts what a rank calls: see `DeviceSharing.fence`. */
export type FenceCall = readonly [name: "fence", args: Record<never, never>];
export const FENCE: FenceCall = ["fence", {}];

export type Call = OpCall | MemoryCall | FenceCall;

/** What has all calls run that came before it. */
export type Called = Call[0] | "show";

/** What has calls run that end so: an op, or one fence too many. */
export function calledBy(calls: readonly Call[]): Called {
  return calls.at(-1)?.[0] ?? FENCE[0];
}

/** True when ranks that called these have their calls run together. */
export function goTogether(called: readonly Called[]): boolean {
  return called.every((one) => one === "show") || called.every((one) => one !== "show");
}

/** True for calls that hold though others before them failed: who made them counts on it. */
export function isAboutMemory([name]: Call): boolean {
  return name === "empty" || name === "free" || name === "plan" || name === "freePlan";
}

/** True for the call of an op, which is neither about memory nor a fence. */
export function isOpCall(call: Call): call is OpCall {
  const [name] = call;
  return !isAboutMemory(call) && name !== "upload" && name !== "download" && name !== "fence";
}

/** True when an op writes to a heap tensor, so that it is complete only when bytes have come from the GPU. */
export function hasHeapResults<Name extends OpName>(name: Name, args: OpArguments[Name]): boolean {
  return opResults(name, args).some((operand) => operand?.place === "heap");
}

/** True for calls that every rank makes together: those with results in the heap. */
export function isCollective([name, args]: Call): boolean {
  if (name === "download") return true;
  if (name === "fence" || name === "upload" || isAboutMemory([name, args] as Call)) return false;
  return hasHeapResults(...([name, args] as unknown as [OpName, OpArguments[OpName]]));
}

/** Runs an op on a backend. */
export function runOp<Name extends OpName>(
  backend: KernelBackend,
  ...[name, args]: readonly [Name, OpArguments[Name]]
): Completion {
  const ops: OfEveryOp<Completion> = backend;
  return ops[name](args);
}
