import type { OpArguments, OpName } from "../ops/op-table.ts";

/** What became of an op: nothing, or what it threw. */
export type OpOutcome = { readonly error: unknown } | undefined;

/**
 * Runs ops of one name that do not depend on each other in fewer dispatches than one each: on a GPU a small op costs what
 * calling it costs.
 */
export interface OpsTogether {
  /** True for the name of an op that can share dispatches with others of its name. */
  takes(name: string): name is OpName;

  /**
   * Runs ops as their methods would, in any order: none may read or write what another of them writes. To be called
   * within `batch`, with which they complete.
   * @returns what became of each; one that is refused does not keep the others from running
   */
  run<Name extends OpName>(name: Name, list: readonly OpArguments[Name][]): readonly OpOutcome[];
}
