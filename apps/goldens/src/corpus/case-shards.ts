import { checkKvShard, type KvShard, kvBlockSize } from "@lockstep/kernels";
import type { CaseParameters } from "./case-parameters.ts";

/** The shards of all ranks. @throws ArgumentError for those that contradict each other */
export function shardsOf(parameters: CaseParameters, operation: string): KvShard[] {
  const count = parameters.number("world") ?? 1;
  const weights = parameters.numbers("weights");
  const interleave = parameters.number("interleave") ?? 1;
  const blockSize = parameters.number("block_size");
  return Array.from({ length: count }, (_, index) => {
    const shard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
    checkKvShard(operation, shard, blockSize === undefined ? undefined : kvBlockSize(shard, blockSize));
    return shard;
  });
}
