import type { AbortSignalLike } from "@lockstep/dist-groups";
import { ArgumentError, describe } from "@lockstep/tensor";
import { isSignal } from "./is-signal.ts";
import type { GeneratorOptions } from "./generator-options.ts";

/**
 * What of an engine's options `Engine.resize` changes. What is left out stays as it is; what is undefined becomes what it
 * is where nobody says it.
 */
export type ResizeChanges = {
  readonly [Name in "world" | "dcp" | "interleave" | "blockSize" | "kvWeights" | "kvBytes"]?:
    | GeneratorOptions[Name]
    | undefined;
} & {
  /** Tokens that the KV cache holds over all texts: of engines. */
  readonly kvTokens?: number | undefined;
};

/** Their names. */
const RESIZED: readonly (keyof ResizeChanges)[] = [
  "world",
  "dcp",
  "interleave",
  "blockSize",
  "kvWeights",
  "kvBytes",
  "kvTokens",
];

/** How ranks are resized. */
export interface ResizeOptions {
  /** Ends it where it fires before the others have all: these ranks go on. */
  readonly signal?: AbortSignalLike;
}

/** The options of ranks once they are resized. @throws ArgumentError for changes of anything else */
export function resizedOptions<O extends GeneratorWorld>(
  operation: string,
  options: O,
  changes: ResizeChanges,
  names: readonly string[] = RESIZED,
): O {
  if (typeof changes !== "object" || changes === null) {
    throw new ArgumentError(operation, "changes", "an object", describe(changes));
  }
  const other = Object.keys(changes).find((name) => !names.includes(name));
  if (other !== undefined) throw new ArgumentError(operation, "changes", `some of ${names.join(", ")}`, other);
  const { world = options.world, ...rest } = changes;
  const resized: O = { ...options, world };
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined) Reflect.deleteProperty(resized, name);
    else Reflect.set(resized, name, value);
  }
  return resized;
}

/** @throws ArgumentError unless a signal is none, or can be listened to */
export function checkResizeSignal(operation: string, signal: AbortSignalLike | undefined): void {
  if (signal === undefined || isSignal(signal)) return;
  throw new ArgumentError(operation, "signal", "an AbortSignal", describe(signal));
}

type GeneratorWorld = Pick<GeneratorOptions, "world">;
