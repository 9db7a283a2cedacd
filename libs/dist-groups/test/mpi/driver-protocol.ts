import type { PlainError } from "../../src/errors/plain-error.ts";

/** Variable of the environment with the path of the socket. */
export const DRIVER_SOCKET = "LOCKSTEP_TEST_DRIVER_SOCKET";

/** What a test asks of the first process of a job. Each is answered by `done`. */
export type DriverCommand = { readonly id: number } /** Opens a world. */ & (
  | { readonly kind: "open"; readonly options: unknown }
  /** Calls a method on every rank, each call by itself: an `answer` for each. */
  | { readonly kind: "call"; readonly method: string; readonly args: readonly unknown[] }
  | { readonly kind: "kill"; readonly rank: number }
  | { readonly kind: "flight" }
  | { readonly kind: "renew" }
  | { readonly kind: "close" }
);

/** How a rank came out of a call. */
export type DriverOutcome = { readonly value: unknown } | { readonly error: PlainError };

export type DriverEvent =
  | { readonly kind: "answer"; readonly id: number; readonly rank: number; readonly outcome: DriverOutcome }
  | { readonly kind: "flight"; readonly id: number; readonly record: unknown }
  | { readonly kind: "done"; readonly id: number; readonly error?: PlainError };
