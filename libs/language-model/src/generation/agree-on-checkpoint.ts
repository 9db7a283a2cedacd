// Whether ranks that read a checkpoint from disks of several machines read the same one.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { checkpointSample } from "../model/checkpoint-sample.ts";
import type { ModelFolder } from "../model/model-files.ts";

/**
 * Returns when all ranks have found the same checkpoint, each at its own end of the same path.
 * @throws OptionsDisagree on every rank, which names those that read another one; ModelError on a rank that cannot read
 */
export async function agreeOnCheckpoint(folder: ModelFolder, world: ProcessGroup): Promise<void> {
  world.agree("Generator.open", { [`the checkpoint in ${folder.name}`]: await checkpointSample(folder) });
}
