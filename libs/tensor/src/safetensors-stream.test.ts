import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ArgumentError, ResourceClosed, SafetensorsError } from "./errors.ts";
import { SafetensorsStream } from "./safetensors-stream.ts";
import { encodeSafetensors } from "./safetensors-writer.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-"));
afterAll(() => rmSync(folder, { recursive: true }));
const heap = SharedHeap.create(1 << 16);
const tensors = [
  ["a", Tensor.from(heap, "f16", [2, 3], [1, 2, 3, 4, 5, 6])],
  ["none", Tensor.empty(heap, "i8", [0, 4])],
  ["__proto__", Tensor.from(heap, "i32", [2], [7, 8])],
] as const;
const listed = tensors.map(([name, { dtype, shape }]) => ({ name, dtype, shape }));

test("a file that is written in pieces is the one that is encoded at once, and takes its place when it is complete", () => {
  const path = join(folder, "pieces.safetensors");
  writeFileSync(path, "old");
  using stream = SafetensorsStream.create(path, listed, { by: "test" });
  for (const [, tensor] of tensors) {
    for (let at = 0; at < tensor.byteLength; at += 5) stream.write(tensor.bytes.subarray(at, at + 5));
  }
  expect(stream.bytesLeft).toBe(0);
  stream.complete();
  expect(readFileSync(path, "utf8")).toBe("old");
  stream.publish();
  expect(new Uint8Array(readFileSync(path))).toEqual(encodeSafetensors(tensors, { by: "test" }));
  expect(existsSync(`${path}.part`)).toBe(false);
  stream.close();
  expect(existsSync(path)).toBe(true);
});

test("what is given up leaves the old file, and nothing beside it", () => {
  const path = join(folder, "kept.safetensors");
  writeFileSync(path, "old");
  for (const end of ["half", "complete"] as const) {
    using stream = SafetensorsStream.create(path, [{ name: "a", dtype: "u8", shape: [4] }]);
    stream.write(new Uint8Array(2));
    expect(() => stream.complete()).toThrow("2 fewer");
    expect(() => stream.publish()).toThrow(ArgumentError);
    expect(() => stream.write(new Uint8Array(3))).toThrow("at most the 2");
    if (end === "complete") {
      stream.write(new Uint8Array(2));
      stream.complete();
      expect(() => stream.write(new Uint8Array(0))).toThrow(ResourceClosed);
    }
    expect(existsSync(`${path}.part`)).toBe(true);
    stream.close();
    expect(() => stream.publish()).toThrow(ResourceClosed);
    expect(() => stream.complete()).toThrow(ResourceClosed);
    expect(existsSync(`${path}.part`)).toBe(false);
  }
  expect(readFileSync(path, "utf8")).toBe("old");
});

test("what cannot be a file is refused before anything is written", () => {
  const path = join(folder, "refused.safetensors");
  const bad: unknown[] = [
    5,
    [null],
    [{ name: "a", dtype: "f99", shape: [1] }],
    [{ name: "a", dtype: "toString", shape: [1] }],
    [{ name: "a", dtype: "f32", shape: [-1] }],
    [{ name: "__metadata__", dtype: "f32", shape: [1] }],
    [listed[0], listed[0]],
  ];
  for (const wrong of bad) expect(() => SafetensorsStream.create(path, wrong as never)).toThrow(ArgumentError);
  expect(() => SafetensorsStream.create(5 as never, [])).toThrow(ArgumentError);
  expect(() => SafetensorsStream.create(path, [], { by: 5 as never })).toThrow(ArgumentError);
  expect(existsSync(`${path}.part`)).toBe(false);
  expect(() => SafetensorsStream.create(join(folder, "nowhere", "a"), [])).toThrow(SafetensorsError);
});

test("a file that cannot take its place is removed", () => {
  const path = join(folder, "taken");
  mkdirSync(join(path, "full"), { recursive: true });
  using stream = SafetensorsStream.create(path, []);
  expect(() => stream.publish()).toThrow(SafetensorsError);
  expect(existsSync(`${path}.part`)).toBe(false);
});
