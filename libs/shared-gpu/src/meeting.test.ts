import { expect, test } from "bun:test";
import type { ProcessGroup } from "@lockstep/dist-groups";
import { SharedHeap, type Tensor } from "@lockstep/tensor";
import { CallsDiffer } from "./errors.ts";
import { meet, newMessage, type Purpose, textOf } from "./meeting.ts";

const heap = SharedHeap.create(1 << 16);
const PURPOSES: readonly Purpose[] = ["opened", "calls", "verdicts", "shown"];

/** A group of ranks that brought these messages. */
const groupOf = (messages: readonly Tensor[]): ProcessGroup =>
  ({
    readPeers: (_own: readonly Tensor[], read: (all: readonly (readonly Tensor[])[]) => unknown) =>
      read(messages.map((message) => [message])),
  }) as unknown as ProcessGroup;

test("ranks that come for the same read what each brought", () => {
  for (const purpose of PURPOSES) {
    const messages = ["", "a", "bé\n{}"].map((text) => newMessage(heap, purpose, text));
    const read = (all: readonly Uint8Array[]): string[] => all.map(textOf);
    for (const own of messages) {
      expect(meet(groupOf(messages), purpose, own, read, undefined)).toEqual(["", "a", "bé\n{}"]);
    }
    for (const message of messages) message.free();
  }
  expect(heap.usedBytes).toBe(0);
});

test.each([2, 3, 4])("of %d ranks one that comes for something else is seen by all, and nothing is read", (size) => {
  const pairs = PURPOSES.flatMap((one) => PURPOSES.filter((other) => other !== one).map((other) => [one, other]));
  for (const [purpose = "calls", other = "calls"] of pairs) {
    for (let odd = 0; odd < size; odd++) {
      const purposes = Array.from({ length: size }, (_, rank) => (rank === odd ? other : purpose));
      const messages = purposes.map((of) => newMessage(heap, of, "[1]"));
      const errors = messages.map((own, rank) => {
        try {
          return meet(groupOf(messages), purposes[rank] ?? purpose, own, () => "read", undefined);
        } catch (error) {
          return error;
        }
      });
      for (const error of errors) {
        if (!(error instanceof CallsDiffer)) throw new Error(`expected CallsDiffer, not ${String(error)}`);
        expect(error.calls.length).toBe(size);
        expect(new Set(error.calls).size).toBe(2);
        expect(error.calls.filter((words) => words === error.calls[odd]).length).toBe(1);
        expect(error.message).toContain(`rank ${odd} ${error.calls[odd]}`);
      }
      for (const message of messages) message.free();
    }
  }
});
