import { DamagedFolders } from "../../libs/language-model/test/damaged-folders.ts";
import { ArgumentsFuzz } from "./arguments-fuzz.ts";
import { AttentionFuzz } from "./attention-fuzz.ts";
import { FilesFuzz } from "./files-fuzz.ts";

/** Something that runs one random case for each seed, and throws when it finds a fault. */
export interface FuzzTarget {
  run(seed: number): Promise<void>;
  close(): void | Promise<void>;
}

/** What `bun run fuzz` runs in turn. */
export const FUZZ_TARGETS: Readonly<Record<string, () => FuzzTarget>> = {
  attention: () => new AttentionFuzz(),
  arguments: () => new ArgumentsFuzz(),
  files: () => new FilesFuzz(),
  models: () => new DamagedFolders(),
};
