import { ArgumentError, describe } from "@lockstep/tensor";
import { isInstance } from "../errors/printed-value.ts";

/** Why a signal that has fired did. */
export function firedReason(signal: AbortSignal | undefined): string | undefined {
  return signal?.aborted === true ? `its signal fired (${describeReason(signal)})` : undefined;
}

/** Calls `interrupt` when the signal fires, or at once when it has fired. Disposing stops listening. */
export function onAbort(signal: AbortSignal | undefined, interrupt: (reason: string) => void): Disposable {
  const listener = (): void => interrupt(firedReason(signal) ?? "its signal fired");
  if (signal?.aborted === true) listener();
  signal?.addEventListener("abort", listener);
  return { [Symbol.dispose]: () => signal?.removeEventListener("abort", listener) };
}

/** Throws unless a signal, when given, is one. */
export function checkSignal(operation: string, signal: unknown): void {
  if (signal === undefined || isInstance(signal, AbortSignal)) return;
  throw new ArgumentError(operation, "signal", "an AbortSignal", describe(signal));
}

function describeReason(signal: AbortSignal): string {
  try {
    return String(signal.reason);
  } catch {
    return "a reason that cannot be printed";
  }
}
