import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DTYPES } from "./dtype.ts";
import { ArgumentError, SafetensorsError } from "./errors.ts";
import { SafetensorsFile, writeSafetensors } from "./safetensors.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-"));
afterAll(() => rmSync(folder, { recursive: true }));
const heap = SharedHeap.create(1 << 20);
const path = join(folder, "all.safetensors");

test("every dtype survives a round trip, strided views too", () => {
  const tensors = DTYPES.map((dtype) => [dtype, Tensor.from(heap, dtype, [2, 3], [1, 2, 3, 4, 5, 6])] as const);
  const strided = Tensor.from(heap, "f16", [2, 3], [1, 2, 3, 4, 5, 6]).transpose(0, 1);
  writeSafetensors(path, [...tensors, ["strided", strided], ["empty", Tensor.empty(heap, "f32", [0, 4])]], {
    by: "test",
  });
  using file = SafetensorsFile.open(path);
  expect(file.metadata).toEqual({ by: "test" });
  for (const [name, tensor] of tensors) {
    const read = file.read(name, heap);
    expect(read.dtype).toBe(tensor.dtype);
    expect([...read.bytes]).toEqual([...tensor.bytes]);
  }
  expect([...file.read("strided", heap).toNumbers()]).toEqual([1, 4, 2, 5, 3, 6]);
  expect(file.info("empty")).toMatchObject({ dtype: "f32", shape: [0, 4] });
  expect(file.read("empty", heap).size).toBe(0);
  expect(() => file.read("absent", heap)).toThrow(ArgumentError);
});

test("a truncated file is refused, wherever it was cut", () => {
  const whole = readFileSync(path);
  const cut = join(folder, "cut.safetensors");
  for (let length = 0; length < whole.length; length += 7) {
    writeFileSync(cut, whole.subarray(0, length));
    expect(() => SafetensorsFile.open(cut)).toThrow(SafetensorsError);
  }
});

test.each([
  ["not JSON", "oops"],
  ["a list", "[]"],
  ["an unknown dtype", '{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}'],
  ["offsets that disagree with the shape", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'],
  ["no offsets", '{"a":{"dtype":"F32","shape":[1]}}'],
])("a header with %s is refused", (_, json) => {
  const bad = join(folder, "bad.safetensors");
  const bytes = new TextEncoder().encode(json);
  const file = new Uint8Array(8 + bytes.length + 8);
  new DataView(file.buffer).setBigUint64(0, BigInt(bytes.length), true);
  file.set(bytes, 8);
  writeFileSync(bad, file);
  expect(() => SafetensorsFile.open(bad)).toThrow(SafetensorsError);
});

test("a missing file is refused", () => {
  expect(() => SafetensorsFile.open(join(folder, "absent"))).toThrow(SafetensorsError);
});

test("I64 and F64 are read as numbers, and refused as tensors", () => {
  const wide = join(folder, "wide.safetensors");
  const json = new TextEncoder().encode(
    '{"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"f":{"dtype":"F64","shape":[1],"data_offsets":[16,24]}}  ',
  );
  const file = new Uint8Array(8 + json.length + 24);
  const view = new DataView(file.buffer);
  view.setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  view.setBigInt64(8 + json.length, 7n, true);
  view.setBigInt64(16 + json.length, -3n, true);
  view.setFloat64(24 + json.length, 0.1, true);
  writeFileSync(wide, file);
  using opened = SafetensorsFile.open(wide);
  expect([...opened.readNumbers("i")]).toEqual([7, -3]);
  expect([...opened.readNumbers("f")]).toEqual([0.1]);
  expect(() => opened.read("i", heap)).toThrow(SafetensorsError);
});
