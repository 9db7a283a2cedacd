import type { RankContext } from "./rank-context.ts";

/** What a rank needs of a program module. */
export interface ProgramModule {
  readonly concurrent?: unknown;
  setup(context: RankContext, options: unknown): unknown;
}

/** Whether a module is a program. */
export function hasSetup(module: unknown): module is ProgramModule {
  return typeof module === "object" && module !== null && typeof Reflect.get(module, "setup") === "function";
}
