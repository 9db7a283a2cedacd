// Where ranks that share a device meet: what each came for is the first byte of what it brings, so that a rank that came
// for something else is seen by all.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import { CallsDiffer } from "./errors.ts";

/** What ranks meet for, in the order of its code, in the words of errors. */
const PURPOSES = {
  opened: "`openSharedBackend`",
  calls: "an op with results in the heap, or `show`",
  verdicts: "the end of such an op",
  shown: "the tensors of `show`",
} as const;
export type Purpose = keyof typeof PURPOSES;

const CODES: readonly string[] = Object.keys(PURPOSES);
/** Bytes of a message before its contents. */
export const HEADER_BYTES = 1;

/** Writes what a message is for. */
export function writePurpose(message: Tensor, purpose: Purpose): void {
  message.bytes[0] = CODES.indexOf(purpose);
}

/** A message of its own memory, which the caller frees. @throws HeapExhausted */
export function newMessage(heap: SharedHeap, purpose: Purpose, text = ""): Tensor {
  const contents = new TextEncoder().encode(text);
  const message = Tensor.empty(heap, "u8", [HEADER_BYTES + contents.length]);
  writePurpose(message, purpose);
  message.bytes.set(contents, HEADER_BYTES);
  return message;
}

/**
 * Meets the other ranks of a group, each with a message for the same purpose.
 * @param own this rank's
 * @param read is given what each rank's message contains, in rank order; the bytes may not be kept
 * @returns what `read` returned
 * @throws CallsDiffer on every rank when they came for different things: nothing is read then
 */
export function meet<T>(
  group: ProcessGroup,
  purpose: Purpose,
  own: Tensor,
  read: (contents: readonly Uint8Array[]) => T,
  deadlineMs: number | undefined,
): T {
  const code = CODES.indexOf(purpose);
  const met = group.readPeers(
    [own],
    (messages): { readonly value: T } | { readonly codes: readonly number[] } => {
      const all = messages.map(([message]) => message?.bytes ?? new Uint8Array());
      const codes = all.map(([first = -1]) => first);
      if (codes.some((one) => one !== code)) return { codes };
      return { value: read(all.map((bytes) => bytes.subarray(HEADER_BYTES))) };
    },
    { deadlineMs },
  );
  if ("value" in met) return met.value;
  const words: readonly string[] = Object.values(PURPOSES);
  throw new CallsDiffer(met.codes.map((one) => words[one] ?? "something else"));
}

/** UTF-8 text that a message contains. A decoder takes no view of shared memory. */
export function textOf(contents: Uint8Array | undefined): string {
  return contents === undefined || contents.length === 0 ? "" : new TextDecoder().decode(contents.slice());
}
