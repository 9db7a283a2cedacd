import { fromPlainError, type PlainError, type ProcessGroup, toPlainError } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";

/** What went wrong in each rank's part of a collective op; nothing in nearly all of them. */
export type Verdicts = ReadonlyMap<number, unknown>;

/** The second half of a collective op on the rank that ran it: tells the others what came of their parts. */
export function tellVerdicts(group: ProcessGroup, heap: SharedHeap, verdicts: Verdicts, deadlineMs?: number): void {
  const plain = [...verdicts].map(([rank, error]): [number, PlainError] => [rank, toPlainError(error)]);
  const bytes = plain.length === 0 ? new Uint8Array() : new TextEncoder().encode(JSON.stringify(plain));
  const told = Tensor.from(heap, "u8", [bytes.length], bytes);
  try {
    group.readPeers([told], () => undefined, { deadlineMs });
  } finally {
    told.free();
  }
}

/** The same on the others: waits until the op has completed, and throws what went wrong in this rank's part. */
export function awaitVerdict(group: ProcessGroup, nothing: Tensor, deadlineMs?: number): void {
  const text = group.readPeers([nothing], ([owner]) => textOf(owner?.[0]), { deadlineMs });
  if (text === "") return;
  const own = (JSON.parse(text) as [number, PlainError][]).find(([rank]) => rank === group.rank);
  if (own !== undefined) throw fromPlainError(own[1]);
}

/** UTF-8 text that a tensor holds. */
export function textOf(tensor: Tensor | undefined): string {
  return tensor === undefined || tensor.size === 0 ? "" : new TextDecoder().decode(tensor.bytes.slice());
}
