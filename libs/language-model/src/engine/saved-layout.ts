// How the files of a save are dealt to ranks, as their headers say it.
import { checkKvShard, kvBlockSize, type KvLayout, type KvShard } from "@lockstep/attention";
import { LockstepError } from "@lockstep/tensor";
import { PrefixStoreError } from "../errors.ts";

/** Entries of a header that say how contexts are dealt to ranks, rather than what is stored of a token. */
const DEALT = ["blockSize", "interleave", "weights", "dcp", "dcpRank", "world", "rank", "kvHeads", "firstKvHead"].map(
  (name) => `layout.${name}`,
);

/** Those of them that differ from rank to rank of a world. */
const OF_RANK: readonly string[] = ["dcpRank", "rank", "kvHeads", "firstKvHead"].map((name) => `layout.${name}`);

type Metadata = Readonly<Record<string, string>>;

/** What one rank of a world stores. */
export interface SavedLayout {
  /** How contexts are dealt, the same on all ranks. */
  readonly deal: KvLayout;
  readonly world: number;
  readonly rank: number;
  /** Its shard of every context. */
  readonly shard: KvShard;
  /** Tokens that it stores of a block. */
  readonly ownBlockSize: number;
  readonly firstKvHead: number;
  readonly kvHeads: number;
}

/** The same header without what says how contexts are dealt. */
export function withoutDeal(metadata: Metadata): Metadata {
  return Object.fromEntries(Object.entries(metadata).filter(([name]) => !DEALT.includes(name)));
}

/** Whether two headers are of worlds that deal contexts alike, whatever ranks they are of. */
export function dealsAlike(one: Metadata, other: Metadata): boolean {
  const names = DEALT.filter((name) => !OF_RANK.includes(name));
  return names.every((name) => one[name] === other[name]);
}

/** What a header says. @throws PrefixStoreError when it says nothing that can be */
export function savedLayout(path: string, metadata: Metadata): SavedLayout {
  const number = (name: string, least: number): number => {
    const text = metadata[`layout.${name}`] ?? "";
    const value = Number(text);
    if (text !== "" && Number.isSafeInteger(value) && value >= least) return value;
    throw new PrefixStoreError("damaged", path, `a layout.${name} of ${least} or more`, text === "" ? "none" : text);
  };
  const listed = metadata["layout.weights"];
  const weights = listed === undefined ? {} : { weights: listed.split(" ").map(Number) };
  const [interleave, blockSize, count] = [number("interleave", 1), number("blockSize", 1), number("dcp", 1)];
  const shard: KvShard = { index: number("dcpRank", 0), count, interleave, ...weights };
  const ownBlockSize = checked(path, () => {
    checkKvShard("loadPrefixes", { ...shard, index: 0 });
    checkKvShard("loadPrefixes", shard, kvBlockSize(shard, blockSize));
    return kvBlockSize(shard, blockSize);
  });
  return {
    deal: { count, interleave, blockSize, ...weights },
    world: number("world", 1),
    rank: number("rank", 0),
    shard,
    ownBlockSize,
    firstKvHead: number("firstKvHead", 0),
    kvHeads: number("kvHeads", 1),
  };
}

function checked<T>(path: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    throw new PrefixStoreError("damaged", path, "a layout that can be", error.message);
  }
}
