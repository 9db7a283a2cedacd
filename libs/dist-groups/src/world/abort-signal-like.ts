/**
 * What is used of an `AbortSignal`: a type of our own, to which a real one can be given, for declarations without
 * `dom`.
 */
export interface AbortSignalLike {
  /** Whether it has fired. */
  readonly aborted: boolean;
  /** Why it has fired. */
  readonly reason: unknown;
  /** Hears of its firing. */
  addEventListener(type: "abort", listener: () => void): void;
  /** Stops hearing of it. */
  removeEventListener(type: "abort", listener: () => void): void;
}
