import type { AbortSignalLike } from "@lockstep/dist-groups";

/** Whether it can be listened to as an `AbortSignal`: one of another realm is none of this one's class. */
export function isSignal(signal: unknown): boolean {
  const { aborted, addEventListener, removeEventListener } = Object(signal) as Partial<AbortSignalLike>;
  const listens = typeof addEventListener === "function" && typeof removeEventListener === "function";
  return typeof aborted === "boolean" && listens;
}
