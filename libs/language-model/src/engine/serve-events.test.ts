import { expect, test } from "bun:test";
import fc from "fast-check";
import { mostEventWords, readEvents, type ServeEvent, writeEvent } from "./serve-events.ts";

const id = fc.nat(2 ** 31 - 1);
const logprob = fc.float({ max: 0, noNaN: true });
const alternatives = fc.array(fc.record({ id, logprob }), { maxLength: 20 });
const token = fc.oneof(fc.record({ id }), fc.record({ id, logprob, top: alternatives }));
const finish = fc.constantFrom(undefined, "stop" as const, "length" as const);
const event: fc.Arbitrary<ServeEvent> = fc.oneof(
  fc.record({ kind: fc.constant("begun" as const), id, cached: id }),
  fc.record({ kind: fc.constant("token" as const), id, token, finish }),
  fc.record({
    kind: fc.constant("step" as const),
    running: id,
    waiting: id,
    freeBlocks: id,
    knownBlocks: id,
    preemptions: id,
    computed: id,
  }),
);

test("events read as they were written, whatever stands beside them", () => {
  fc.assert(
    fc.property(fc.array(event), (events) => {
      const words: number[] = [];
      for (const each of events) writeEvent(words, each);
      expect([...readEvents(Int32Array.from(words))]).toEqual(events);
    }),
  );
});

test("a step of full requests takes the words that are reserved for it", () => {
  const top = Array.from({ length: 20 }, (_, index) => ({ id: index, logprob: -1 }));
  const words: number[] = [];
  for (let request = 0; request < 5; request++) {
    writeEvent(words, { kind: "begun", id: request, cached: 0 });
    writeEvent(words, { kind: "token", id: request, token: { id: 1, logprob: -1, top }, finish: "stop" });
  }
  const counts = { running: 0, waiting: 0, freeBlocks: 0, knownBlocks: 0, preemptions: 0, computed: 0 };
  writeEvent(words, { kind: "step", ...counts });
  expect(words).toHaveLength(mostEventWords(5, 20));
});

test("what is no record is an error, not an event", () => {
  expect(() => [...readEvents(Int32Array.of(9, 1, 2))]).toThrow("kind 9");
});
