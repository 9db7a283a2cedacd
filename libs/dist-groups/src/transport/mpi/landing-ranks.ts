import type { RankHome } from "./tags.ts";

/**
 * By place of the sender in the group: who lands in a process what the sender shares with everybody; -1 for senders of
 * that process, whose tensors are read where they lie. The ranks of a process take turns by the sender's place.
 */
export function landingRanks(homes: readonly RankHome[], process: number | undefined): readonly number[] {
  const locals = homes.flatMap((home, rank) => (home.process === process ? [rank] : []));
  return homes.map((home, sender) => (home.process === process ? -1 : (locals[sender % locals.length] ?? -1)));
}

/** Who lands what rank `sender` of a group shares: one rank of each other process. */
export function landersOf(homes: readonly RankHome[], sender: number): readonly number[] {
  const processes = new Set(homes.map(({ process }) => process));
  processes.delete(homes[sender]?.process ?? -1);
  return [...processes].map((process) => landingRanks(homes, process)[sender] ?? -1);
}
