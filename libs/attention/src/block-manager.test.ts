import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import { BlockManager } from "./block-manager.ts";
import { OutOfBlocks } from "./errors.ts";

test("blocks are handed out lowest first and only when a sequence grows past its last one", () => {
  const manager = new BlockManager(4, 8);
  const sequence = manager.createSequence();
  manager.extend([{ sequence, tokens: 8 }]);
  expect(manager.get(sequence)).toMatchObject({ length: 8, blocks: [0] });
  manager.extend([{ sequence, tokens: 1 }]);
  expect(manager.get(sequence)).toMatchObject({ length: 9, blocks: [0, 1] });
  manager.truncate(sequence, 8);
  expect(manager.get(sequence)).toMatchObject({ length: 8, blocks: [0] });
  expect(manager.freeBlocks).toBe(3);
});

test("a step that does not fit changes nothing", () => {
  const manager = new BlockManager(3, 4);
  const [first, second] = [manager.createSequence(), manager.createSequence()];
  manager.extend([{ sequence: first, tokens: 4 }]);
  const step = [
    { sequence: first, tokens: 4 },
    { sequence: second, tokens: 5 },
  ];
  expect(() => manager.extend(step)).toThrow(OutOfBlocks);
  expect(() => manager.extend(step)).toThrow("needs 3 more, 2 of 3 are free");
  expect(manager.get(first)).toMatchObject({ length: 4, blocks: [0] });
  expect(manager.get(second)).toMatchObject({ length: 0, blocks: [] });
});

test("unknown and freed sequences are refused", () => {
  const manager = new BlockManager(3, 4);
  const sequence = manager.createSequence();
  manager.free(sequence);
  expect(() => manager.free(sequence)).toThrow(ArgumentError);
  expect(() => manager.extend([{ sequence: 99, tokens: 1 }])).toThrow(ArgumentError);
  expect(() => manager.truncate(manager.createSequence(), 1)).toThrow(ArgumentError);
});

test("no block is ever held twice, and all come back", () => {
  const action = fc.record({ kind: fc.nat(2), sequence: fc.nat(3), tokens: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const manager = new BlockManager(12, 4);
      const live = new Map<number, number>();
      for (const { kind, sequence: slot, tokens } of actions) {
        const sequence = live.get(slot) ?? manager.createSequence();
        live.set(slot, sequence);
        if (kind === 0) {
          try {
            manager.extend([{ sequence, tokens }]);
          } catch (error) {
            expect(error).toBeInstanceOf(OutOfBlocks);
          }
        } else if (kind === 1) manager.truncate(sequence, Math.min(tokens, manager.get(sequence).length));
        else {
          manager.free(sequence);
          live.delete(slot);
        }
        const held = [...live.values()].flatMap((id) => [...manager.get(id).blocks]);
        expect(new Set(held).size).toBe(held.length);
        expect(held.length + manager.freeBlocks).toBe(12);
        for (const id of live.values()) {
          expect(manager.get(id).blocks.length).toBe(Math.ceil(manager.get(id).length / 4));
        }
      }
    }),
  );
});
