import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import { OutOfBlocks } from "../errors.ts";
import { BlockManager } from "./block-manager.ts";

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
  expect(() => manager.fork(sequence)).toThrow(ArgumentError);
  expect(() => manager.extend([{ sequence: 99, tokens: 1 }])).toThrow(ArgumentError);
  expect(() => manager.truncate(manager.createSequence(), 1)).toThrow(ArgumentError);
});

test("a fork shares every block until one of the two appends; full blocks stay shared", () => {
  const manager = new BlockManager(6, 4);
  const parent = manager.createSequence();
  manager.extend([{ sequence: parent, tokens: 6 }]);
  const child = manager.fork(parent);
  expect(manager.get(child)).toEqual(manager.get(parent));
  expect(manager.freeBlocks).toBe(4);
  const { copies } = manager.extend([{ sequence: child, tokens: 1 }]);
  expect(copies).toEqual([{ from: 1, to: 2 }]);
  expect(manager.get(child)).toMatchObject({ length: 7, blocks: [0, 2] });
  // Now that the block is the parent's own, appending copies nothing.
  expect(manager.extend([{ sequence: parent, tokens: 1 }]).copies).toEqual([]);
  manager.free(parent);
  expect(manager.freeBlocks).toBe(4);
  expect(manager.holders(0)).toBe(1);
});

test("a fork at a block boundary copies nothing, and one cut back into a shared block does", () => {
  const manager = new BlockManager(6, 4);
  const parent = manager.createSequence();
  manager.extend([{ sequence: parent, tokens: 8 }]);
  const child = manager.fork(parent);
  expect(manager.extend([{ sequence: child, tokens: 1 }]).copies).toEqual([]);
  manager.truncate(child, 7);
  expect(manager.extend([{ sequence: child, tokens: 1 }]).copies).toEqual([{ from: 1, to: 2 }]);
});

test("of the sequences of one step that share a block, all but the last get copies", () => {
  const manager = new BlockManager(5, 4);
  const a = manager.createSequence();
  manager.extend([{ sequence: a, tokens: 2 }]);
  const [b, c] = [manager.fork(a), manager.fork(a)];
  const step = [a, b, c].map((sequence) => ({ sequence, tokens: 1 }));
  const { copies, undo } = manager.extend(step);
  expect(copies).toEqual([
    { from: 0, to: 1 },
    { from: 0, to: 2 },
  ]);
  expect([a, b, c].map((sequence) => manager.get(sequence).blocks)).toEqual([[1], [2], [0]]);
  undo();
  expect([a, b, c].map((sequence) => manager.get(sequence))).toEqual([a, b, c].map(() => ({ length: 2, blocks: [0] })));
  expect(manager.freeBlocks).toBe(4);
  expect(manager.holders(0)).toBe(3);
});

test("a copy that finds no free block is refused before anything changed", () => {
  const manager = new BlockManager(1, 4);
  const parent = manager.createSequence();
  manager.extend([{ sequence: parent, tokens: 2 }]);
  const child = manager.fork(parent);
  expect(() => manager.extend([{ sequence: child, tokens: 1 }])).toThrow("needs 1 more, 0 of 1 are free");
  expect(manager.get(child)).toEqual({ length: 2, blocks: [0] });
});

/**
 * A model of copy-on-write: every sequence's tokens, written through its blocks as a cache would be. Whatever is done
 * to the others, a sequence must read its own tokens.
 */
test("every sequence reads its own tokens, no block is lost, and all come back", () => {
  const action = fc.record({ kind: fc.nat(4), sequence: fc.nat(4), tokens: fc.nat(11) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
      const [total, size] = [14, 4];
      const manager = new BlockManager(total, size);
      const cache = new Int32Array(total * size).fill(-1);
      const live = new Map<number, number>();
      const written = new Map<number, number[]>();
      let next = 0;
      for (const { kind, sequence: slot, tokens } of actions) {
        const sequence = live.get(slot) ?? manager.createSequence();
        live.set(slot, sequence);
        const own = written.get(sequence) ?? [];
        written.set(sequence, own);
        if (kind <= 1) {
          try {
            const { copies, undo } = manager.extend([{ sequence, tokens }]);
            if (next % 5 === 4) {
              undo();
              next++;
            } else {
              for (const { from, to } of copies) cache.copyWithin(to * size, from * size, (from + 1) * size);
              for (let token = 0; token < tokens; token++) {
                const block = manager.get(sequence).blocks[Math.floor(own.length / size)] ?? -1;
                cache[block * size + (own.length % size)] = next;
                own.push(next++);
              }
            }
          } catch (error) {
            expect(error).toBeInstanceOf(OutOfBlocks);
          }
        } else if (kind === 2) {
          own.length = Math.min(tokens, own.length);
          manager.truncate(sequence, own.length);
        } else if (kind === 3) {
          const other = (slot + 1) % 5;
          const replaced = live.get(other);
          if (replaced !== undefined) manager.free(replaced);
          const fork = manager.fork(sequence);
          live.set(other, fork);
          written.set(fork, [...own]);
        } else {
          manager.free(sequence);
          live.delete(slot);
        }
        const held = new Set([...live.values()].flatMap((id) => [...manager.get(id).blocks]));
        expect(held.size + manager.freeBlocks).toBe(total);
        for (const id of live.values()) {
          const { length, blocks } = manager.get(id);
          expect(blocks.length).toBe(Math.ceil(length / size));
          const read = Array.from(
            { length },
            (_, at) => cache[(blocks[Math.floor(at / size)] ?? -1) * size + (at % size)] ?? -1,
          );
          expect(read).toEqual(written.get(id) ?? []);
        }
      }
    }),
  );
});
