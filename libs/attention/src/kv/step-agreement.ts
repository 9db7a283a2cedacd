// Finding common ground among ranks after a step that ended on some of them and not on others.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { type Allocator, Tensor } from "@lockstep/tensor";

/** Sequences of one rank: their ids, ascending, and how many of their tokens are stored over all ranks. */
type SequenceLengths = ReadonlyMap<number, number>;

/**
 * The sequences that every rank of a group has, each with the shortest length that a rank has of it; and the largest id
 * that a rank would give its next sequence. Called by every rank.
 * @throws the group's errors
 */
function commonLengths(
  group: ProcessGroup,
  own: SequenceLengths,
  next: number,
  allocator: Allocator,
  deadlineMs: number | undefined,
): { lengths: Map<number, number>; next: number } {
  const heads = gathered(group, [own.size, next], allocator, deadlineMs);
  const counts = heads.map(([count = 0]) => count);
  const most = Math.max(...counts);
  const words = [...own].flat();
  while (words.length < 2 * most) words.push(0);
  const common = new Map(own);
  for (const [rank, list] of gathered(group, words, allocator, deadlineMs).entries()) {
    const theirs = new Map<number, number>();
    for (let at = 0; at < 2 * (counts[rank] ?? 0); at += 2) theirs.set(list[at] ?? 0, list[at + 1] ?? 0);
    for (const [sequence, length] of common) {
      const other = theirs.get(sequence);
      if (other === undefined) common.delete(sequence);
      else common.set(sequence, Math.min(length, other));
    }
  }
  return { lengths: common, next: Math.max(...heads.map(([, id = 0]) => id)) };
}

/**
 * The sequences that every rank of every group has, cut to what all of them have stored, and the next id that none of
 * them has given. Called by every rank.
 * @throws the groups' errors
 */
export function commonSequences(
  groups: Iterable<ProcessGroup>,
  own: { readonly lengths: SequenceLengths; readonly next: number },
  allocator: Allocator,
  deadlineMs: number | undefined,
): { lengths: SequenceLengths; next: number } {
  let { lengths, next } = own;
  for (const group of groups) ({ lengths, next } = commonLengths(group, lengths, next, allocator, deadlineMs));
  return { lengths, next };
}

/** A row of whole numbers of every rank, in rank order. All rows are equally long. */
function gathered(
  group: ProcessGroup,
  row: readonly number[],
  allocator: Allocator,
  deadlineMs: number | undefined,
): number[][] {
  const own = Tensor.from(allocator, "i32", [1, row.length], row);
  const all = Tensor.empty(allocator, "i32", [group.size, row.length]);
  try {
    group.allGather(own, all, { dim: 0, deadlineMs });
    return Array.from({ length: group.size }, (_, rank) => [...all.select(0, rank).toNumbers()]);
  } finally {
    all.free();
    own.free();
  }
}
