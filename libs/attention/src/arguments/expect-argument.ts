// That arguments are of the kind that their types say, for callers whose compiler does not.
import type { ProcessGroup } from "@lockstep/dist-groups";
import type { KernelBackend } from "@lockstep/kernels";
import { ArgumentError, describe } from "@lockstep/tensor";

/** Throws ArgumentError unless `value` is an object. */
export function expectRecord(operation: string, argument: string, value: object): void {
  if (typeof value === "object" && value !== null) return;
  throw new ArgumentError(operation, argument, "an object", describe(value));
}

/** Throws ArgumentError unless `value` has the methods of a KernelBackend. */
export function expectBackend(operation: string, argument: string, value: KernelBackend): void {
  if (typeof value === "object" && value !== null && typeof value.partialAttention === "function") return;
  throw new ArgumentError(operation, argument, "a KernelBackend", describe(value));
}

/** Throws ArgumentError unless `value` has the methods of a ProcessGroup. */
export function expectGroup(operation: string, argument: string, value: ProcessGroup): void {
  if (typeof value === "object" && value !== null && typeof value.agree === "function" && Array.isArray(value.ranks)) {
    return;
  }
  throw new ArgumentError(operation, argument, "a ProcessGroup", describe(value));
}
