import { ArgumentError, describe } from "@lockstep/tensor";
import { readSafely } from "../errors/printed-value.ts";
import type { AbortSignalLike } from "./abort-signal-like.ts";

/** Why a signal that has fired did. */
export function firedReason(signal: AbortSignalLike | undefined): string | undefined {
  return signal?.aborted === true ? `its signal fired (${describeReason(signal)})` : undefined;
}

/** Calls `interrupt` when the signal fires, or at once when it has fired. Disposing stops listening. */
export function onAbort(signal: AbortSignalLike | undefined, interrupt: (reason: string) => void): Disposable {
  const listener = (): void => interrupt(firedReason(signal) ?? "its signal fired");
  if (signal?.aborted === true) listener();
  signal?.addEventListener("abort", listener);
  return { [Symbol.dispose]: () => signal?.removeEventListener("abort", listener) };
}

/** Throws unless a signal, when given, is one. */
export function checkSignal(operation: string, signal: unknown): void {
  if (signal === undefined || isSignal(signal)) return;
  throw new ArgumentError(operation, "signal", "an AbortSignal", describe(signal));
}

function isSignal(signal: unknown): boolean {
  if (typeof signal !== "object" || signal === null) return false;
  const hears = (name: string): boolean => typeof readSafely(signal, name) === "function";
  return (
    typeof readSafely(signal, "aborted") === "boolean" && hears("addEventListener") && hears("removeEventListener")
  );
}

function describeReason(signal: AbortSignalLike): string {
  try {
    return String(signal.reason);
  } catch {
    return "a reason that cannot be printed";
  }
}
