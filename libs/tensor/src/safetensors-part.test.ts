import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ArgumentError, ResourceClosed, SafetensorsError, UseAfterFree } from "./errors.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { writeSafetensors } from "./safetensors-writer.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-part-"));
afterAll(() => rmSync(folder, { recursive: true }));
const heap = SharedHeap.create(48 << 20);
const path = join(folder, "parts.safetensors");

/** A matrix of which every element is another one. */
function counted(rows: number, columns: number): Tensor {
  const matrix = Tensor.empty(heap, "i32", [rows, columns]);
  matrix.i32.forEach((_, index) => {
    matrix.i32[index] = index;
  });
  return matrix;
}

test("any rows and columns of a matrix, bit for bit, and nothing else is written", () => {
  const matrix = counted(13, 17);
  writeSafetensors(path, [
    ["before", counted(3, 3)],
    ["matrix", matrix],
    ["after", counted(2, 2)],
  ]);
  using file = SafetensorsFile.open(path);
  const free = heap.freeBytes;
  const range = (size: number) =>
    fc.tuple(fc.nat(size), fc.nat(size)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));
  fc.assert(
    fc.property(fc.option(range(13), { nil: undefined }), fc.option(range(17), { nil: undefined }), (rows, columns) => {
      const [r, c] = [rows ?? { start: 0, end: 13 }, columns ?? { start: 0, end: 17 }];
      const own = r.end - r.start;
      const guarded = Tensor.empty(heap, "i32", [own + 2, c.end - c.start]).fill(-1);
      const target = guarded.slice(0, 1, own + 1);
      file.readInto("matrix", target, { rows, columns });
      const wanted = matrix.slice(0, r.start, r.end).slice(1, c.start, c.end).toNumbers();
      expect(target.toNumbers()).toEqual(wanted);
      for (const row of [0, own + 1]) {
        const guard = guarded.slice(0, row, row + 1).toNumbers();
        expect(guard.every((value) => value === -1)).toBe(true);
      }
      guarded.free();
    }),
    { numRuns: 300, seed: 5 },
  );
  expect(heap.freeBytes).toBe(free);
});

test.each([
  // Bytes of a row and of a run below, around and beyond the 1 MiB of a read.
  [700, 1000],
  [5, 262_143],
  [5, 262_144],
  [4, 262_145],
  [3, 700_001],
])("a matrix of %d rows of %d is read through a buffer of 1 MiB", (rows, columns) => {
  const matrix = counted(rows, columns);
  writeSafetensors(path, [["matrix", matrix]]);
  using file = SafetensorsFile.open(path);
  for (const run of [
    { start: 0, end: columns },
    { start: 1, end: columns },
    { start: 3, end: Math.floor(columns / 2) },
    { start: columns - 1, end: columns },
  ]) {
    const target = Tensor.empty(heap, "i32", [rows - 1, run.end - run.start]).fill(-1);
    file.readInto("matrix", target, { rows: { start: 1, end: rows }, columns: run });
    let wrong = 0;
    for (let row = 0; row < rows - 1; row++) {
      for (let column = run.start; column < run.end; column++) {
        const found = target.i32[row * (run.end - run.start) + column - run.start];
        if (found !== (row + 1) * columns + column) wrong++;
      }
    }
    expect(wrong).toBe(0);
    target.free();
  }
  matrix.free();
});

test("tensors of other ranks: vectors, scalars, higher ones by rows", () => {
  const scalar = Tensor.from(heap, "f32", [], [7]);
  const vector = Tensor.from(heap, "f16", [5], [0, 1, 2, 3, 4]);
  const cube = Tensor.from(heap, "bf16", [3, 2, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  writeSafetensors(path, [
    ["scalar", scalar],
    ["vector", vector],
    ["cube", cube],
  ]);
  using file = SafetensorsFile.open(path);
  const one = Tensor.empty(heap, "f32", []);
  file.readInto("scalar", one);
  expect(one.at()).toBe(7);
  const some = Tensor.empty(heap, "f16", [3]);
  file.readInto("vector", some, { rows: { start: 1, end: 4 } });
  expect([...some.toNumbers()]).toEqual([1, 2, 3]);
  const two = Tensor.empty(heap, "bf16", [2, 2, 2]);
  file.readInto("cube", two, { rows: { start: 1, end: 3 } });
  expect([...two.toNumbers()]).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
  const wrong = [
    () => file.readInto("scalar", one, { rows: { start: 0, end: 1 } }),
    () => file.readInto("vector", some, { columns: { start: 0, end: 1 } }),
    () => file.readInto("cube", two, { columns: { start: 0, end: 1 } }),
  ];
  for (const call of wrong) expect(call).toThrow(ArgumentError);
});

test("refused before anything is written", () => {
  const matrix = counted(4, 6);
  writeSafetensors(path, [["matrix", matrix]]);
  using file = SafetensorsFile.open(path);
  const target = Tensor.empty(heap, "i32", [4, 6]).fill(-1);
  const freed = Tensor.empty(heap, "i32", [4, 6]);
  freed.free();
  const bad: readonly (readonly [string, unknown, unknown?])[] = [
    ["absent", target],
    ["matrix", Tensor.empty(heap, "u32", [4, 6])],
    ["matrix", Tensor.empty(heap, "i32", [6, 4])],
    ["matrix", Tensor.empty(heap, "i32", [24])],
    ["matrix", Tensor.empty(heap, "i32", [6, 4]).transpose(0, 1)],
    ["matrix", {}],
    ["matrix", null],
    ["matrix", target, null],
    ["matrix", target, 4],
    ["matrix", target, { rows: 4 }],
    ["matrix", target, { rows: null }],
    ["matrix", target, { rows: { start: 0, end: 5 } }],
    ["matrix", target, { rows: { start: -1, end: 3 } }],
    ["matrix", target, { rows: { start: 3, end: 1 } }],
    ["matrix", target, { rows: { start: 0, end: 3.5 } }],
    ["matrix", target, { rows: { start: Symbol("a"), end: 1n } }],
    ["matrix", target, { columns: { start: 0, end: 7 } }],
    ["matrix", target, { columns: { start: 0, end: 3 } }],
  ];
  for (const [name, into, part] of bad) {
    expect(() => file.readInto(name, into as Tensor, part as undefined)).toThrow(ArgumentError);
  }
  expect(() => file.readInto("matrix", freed)).toThrow(UseAfterFree);
  expect(target.toNumbers().every((value) => value === -1)).toBe(true);
  file.close();
  expect(() => file.readInto("matrix", target)).toThrow(ResourceClosed);
});

test("a file that was cut since it was opened", () => {
  writeSafetensors(path, [["matrix", counted(64, 16)]]);
  using file = SafetensorsFile.open(path);
  truncateSync(path, 2000);
  const target = Tensor.empty(heap, "i32", [64, 8]);
  expect(() => file.readInto("matrix", target, { columns: { start: 8, end: 16 } })).toThrow(SafetensorsError);
  const free = heap.freeBytes;
  expect(() => file.read("matrix", heap)).toThrow('expected 4096 bytes of "matrix"');
  expect(heap.freeBytes).toBe(free);
});
