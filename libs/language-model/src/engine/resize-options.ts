import type { AbortSignalLike } from "@lockstep/dist-groups";
import { ArgumentError, describe } from "@lockstep/tensor";
import type { EngineOptions } from "./engine-options.ts";

/**
 * What of an engine's options `Engine.resize` changes. What is left out stays as it is; what is undefined becomes what it
 * is where nobody says it.
 */
export type ResizeChanges = {
  readonly [Name in "world" | "dcp" | "interleave" | "blockSize" | "kvWeights" | "kvBytes" | "kvTokens"]?:
    | EngineOptions[Name]
    | undefined;
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

/** How `Engine.resize` does it. */
export interface ResizeOptions {
  /** Ends it where it fires before the others have all: these ranks go on. */
  readonly signal?: AbortSignalLike;
}

/** The options of an engine once it has resized. @throws ArgumentError for changes of anything else */
export function resizedOptions(options: EngineOptions, changes: ResizeChanges): EngineOptions {
  const operation = "Engine.resize";
  if (typeof changes !== "object" || changes === null) {
    throw new ArgumentError(operation, "changes", "an object", describe(changes));
  }
  const names: readonly string[] = RESIZED;
  const other = Object.keys(changes).find((name) => !names.includes(name));
  if (other !== undefined) throw new ArgumentError(operation, "changes", `some of ${names.join(", ")}`, other);
  const { world = options.world, ...rest } = changes;
  const resized: Record<string, unknown> = { ...options };
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined) delete resized[name];
    else resized[name] = value;
  }
  return { ...resized, world };
}
