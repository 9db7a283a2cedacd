import type { MethodsOf, World } from "@lockstep/dist-groups";
import type * as program from "./rank-program.ts";

/** Ranks of a consumer's world, and its groups. */
export const SIZE = 4;
export const GROUPS = {
  pair: [
    [0, 1],
    [2, 3],
  ],
};

/** What a world computed. */
export interface WorldResults {
  /** A hash for every rank, over all collectives. */
  readonly collectives: readonly string[];
  /** The attention of the last token: every rank's heads in turn. */
  readonly attention: readonly number[];
}

/** Runs all that the program has. */
export async function runWorld(world: World<MethodsOf<typeof program>>): Promise<WorldResults> {
  const collectives = await world.call("collectives", []);
  let attention: number[] = [];
  for (let token = 0; token < 9; token++) attention = (await world.call("attend", [token])).flat();
  return { collectives, attention };
}
