// The rank's side of the test of checkpoints that differ from machine to machine.
import type { RankContext } from "@lockstep/dist-groups";
import { agreeOnCheckpoint } from "../src/generation/agree-on-checkpoint.ts";
import { modelFolder } from "../src/model/model-files.ts";

/** Called by the world on every rank. */
export function setup({ rank, world }: RankContext) {
  return {
    /** What a rank is told that finds the folder of its number; "the same" when all find the same. */
    async agree(folders: readonly string[]): Promise<string> {
      try {
        await agreeOnCheckpoint(modelFolder("test", folders[rank] ?? ""), world);
        return "the same";
      } catch (error) {
        return String(error);
      }
    },
  };
}
