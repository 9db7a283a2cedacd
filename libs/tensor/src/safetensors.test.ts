import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { DTYPES } from "./dtype.ts";
import { ArgumentError, LockstepError, MemoryNotShared, ResourceClosed, SafetensorsError } from "./errors.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { encodeSafetensors, writeSafetensors } from "./safetensors-writer.ts";
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

test("bytes in memory are a file: what is encoded is what is written, and is read alike", () => {
  const tensors = [["a", Tensor.from(heap, "bf16", [2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])]] as const;
  const bytes = encodeSafetensors(tensors, { by: "test" });
  const written = join(folder, "written.safetensors");
  writeSafetensors(written, tensors, { by: "test" });
  expect(bytes).toEqual(new Uint8Array(readFileSync(written)));
  using file = SafetensorsFile.from(bytes, "mine");
  expect(file.path).toBe("mine");
  expect(file.metadata).toEqual({ by: "test" });
  expect([...file.readNumbers("a")]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const part = Tensor.empty(heap, "bf16", [2, 2]);
  file.readInto("a", part, { columns: { start: 3, end: 5 } });
  expect([...part.toNumbers()]).toEqual([4, 5, 9, 10]);
  expect(() => SafetensorsFile.from("text" as unknown as Uint8Array)).toThrow(ArgumentError);
  expect(() => SafetensorsFile.from(bytes.buffer as unknown as Uint8Array)).toThrow("new Uint8Array(buffer)");
  expect(() => encodeSafetensors([["", 3]] as unknown as typeof tensors)).toThrow('encodeSafetensors: `tensors ""`');
});

test("a page without cross-origin isolation is told which headers to send", () => {
  Reflect.set(globalThis, "crossOriginIsolated", false);
  try {
    expect(() => SharedHeap.create(1024)).toThrow(MemoryNotShared);
    expect(() => SharedHeap.create(1024)).toThrow("Cross-Origin-Opener-Policy: same-origin");
  } finally {
    Reflect.deleteProperty(globalThis, "crossOriginIsolated");
  }
});

test("a truncated file is refused, wherever it was cut", () => {
  const whole = new Uint8Array(readFileSync(path));
  const cut = join(folder, "cut.safetensors");
  for (let length = 0; length < whole.length; length += 7) {
    writeFileSync(cut, whole.subarray(0, length));
    expect(() => SafetensorsFile.open(cut)).toThrow(SafetensorsError);
    expect(() => SafetensorsFile.from(whole.subarray(0, length))).toThrow(SafetensorsError);
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

/** A file with this header, and `bytes` bytes of data behind it. */
function fileOf(json: string, bytes: number): string {
  const text = new TextEncoder().encode(json);
  const file = new Uint8Array(8 + text.length + bytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  const at = join(folder, "made.safetensors");
  writeFileSync(at, file);
  return at;
}

const entry = (from: number, to: number, more = ""): string =>
  `{"dtype":"U8","shape":[${to - from}],"data_offsets":[${from},${to}]${more}}`;

test.each([
  ["overlapping offsets", `{"a":${entry(0, 6)},"b":${entry(4, 8)}}`, 8, /"b" to begin at byte 6 .* 4, which overlaps/],
  ["one range twice", `{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4, /overlaps/],
  ["a gap between tensors", `{"a":${entry(0, 4)},"b":${entry(6, 8)}}`, 8, /leaves a gap/],
  ["a gap before the first", `{"a":${entry(2, 4)}}`, 4, /leaves a gap/],
  ["trailing bytes", `{"a":${entry(0, 4)}}`, 5, /to end at byte .* 1 bytes beyond it/],
  ["bytes and no tensor", "{}", 1, /1 bytes beyond it/],
  ["a name twice", `{"a":${entry(0, 4)},"a":${entry(4, 8)}}`, 8, /every name once, but found "a" twice/],
  ["a name twice, escaped", `{"a":${entry(0, 4)},"\\u0061":${entry(4, 8)}}`, 8, /"a" twice/],
  ["a field twice", `{"a":${entry(0, 4, ',"shape":[4]')}}`, 4, /"shape" twice/],
  ["metadata twice", `{"__metadata__":{},"__metadata__":{},"a":${entry(0, 4)}}`, 4, /"__metadata__" twice/],
  ["space before the brace", ` {"a":${entry(0, 4)}}`, 4, /begins with \{/],
  ["metadata that is no text", `{"__metadata__":{"a":1},"a":${entry(0, 4)}}`, 4, /__metadata__/],
  ["metadata that is a list", `{"__metadata__":["a"],"a":${entry(0, 4)}}`, 4, /__metadata__/],
  ["offsets in reverse", '{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}', 4, /\[begin, end\]/],
  ["three offsets", '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}}', 4, /\[begin, end\]/],
  ["negative sizes", '{"a":{"dtype":"U8","shape":[-2,-2],"data_offsets":[0,4]}}', 4, /shape/],
  ["sizes that overflow", '{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', 0, /counted/],
  ["none of huge sizes", '{"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}', 0, /counted/],
  ["a size of 2^32", '{"a":{"dtype":"F32","shape":[4294967296],"data_offsets":[0,17179869184]}}', 4, /to end at byte/],
  ["a dtype that is an object", '{"a":{"dtype":{"toString":1},"shape":[4],"data_offsets":[0,4]}}', 4, /a dtype of "a"/],
  ["a dtype of an object's property", '{"a":{"dtype":"toString","shape":[4],"data_offsets":[0,4]}}', 4, /dtypes/],
  ["an entry that is null", '{"a":null}', 0, /dtype, shape and data_offsets/],
  ["nesting without end", `{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`, 0, /./],
])("%s is refused, in one line", (_, json, bytes, message) => {
  let thrown: unknown;
  try {
    SafetensorsFile.open(fileOf(json, bytes)).close();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(SafetensorsError);
  expect(String(thrown)).toMatch(message);
  expect(String(thrown)).not.toContain("\n");
});

test("tensors without elements may lie anywhere between others", () => {
  const empty = (at: number): string => `{"dtype":"F32","shape":[0,3],"data_offsets":[${at},${at}]}`;
  using file = SafetensorsFile.open(fileOf(`{"a":${empty(0)},"b":${entry(0, 4)},"c":${empty(4)}}  `, 4));
  expect(file.names).toEqual(["a", "b", "c"]);
  expect(file.read("c", heap).size).toBe(0);
});

test("a header length beyond the file, or beyond every number, is refused at once", () => {
  for (const length of [2n ** 64n - 1n, 2n ** 63n, 2n ** 53n, 2n ** 32n, 99_999_999n]) {
    const bytes = new Uint8Array(64);
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    const at = join(folder, "long.safetensors");
    writeFileSync(at, bytes);
    expect(() => SafetensorsFile.open(at)).toThrow(SafetensorsError);
  }
});

test("what is no file is refused, a pipe without waiting for it", () => {
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  for (const at of [folder, pipe, "/dev/zero", "", "a\0b", join(path, "within")]) {
    expect(() => SafetensorsFile.open(at)).toThrow(SafetensorsError);
  }
  for (const at of [undefined, null, 4, {}]) {
    expect(() => SafetensorsFile.open(at as unknown as string)).toThrow(ArgumentError);
  }
});

test("a closed file says so from every method", () => {
  writeSafetensors(path, [["a", Tensor.zeros(heap, "f32", [2])]]);
  const file = SafetensorsFile.open(path);
  file.close();
  file.close();
  const calls = [
    () => file.names,
    () => file.has("a"),
    () => file.info("a"),
    () => file.stored("a"),
    () => file.read("a", heap),
    () => file.readNumbers("a"),
  ];
  const free = heap.freeBytes;
  for (const call of calls) expect(call).toThrow(ResourceClosed);
  expect(heap.freeBytes).toBe(free);
});

test("no tensor is lost in writing, whatever its name", () => {
  const tensor = Tensor.from(heap, "i32", [2], [1, 2]);
  const names = ["__proto__", "constructor", "toString", "", "0", "a\nb", "ü", "\u{1f600}"];
  writeSafetensors(
    path,
    names.map((name) => [name, tensor] as const),
    JSON.parse('{"__proto__":"x","toString":"y"}') as Record<string, string>,
  );
  using file = SafetensorsFile.open(path);
  expect([...file.names].sort()).toEqual([...names].sort());
  for (const name of names) expect([...file.readNumbers(name)]).toEqual([1, 2]);
  expect(Object.entries(file.metadata).sort()).toEqual([
    ["__proto__", "x"],
    ["toString", "y"],
  ]);
});

test("what cannot be written is refused before the file is touched", () => {
  const tensor = Tensor.from(heap, "i32", [2], [1, 2]);
  const freed = Tensor.from(heap, "i32", [2], [1, 2]);
  freed.free();
  writeSafetensors(path, [["kept", tensor]]);
  const before = readFileSync(path);
  const bad: readonly (readonly [readonly (readonly [unknown, unknown])[], unknown?])[] = [
    [
      [
        ["a", tensor],
        ["a", tensor],
      ],
    ],
    [[["__metadata__", tensor]]],
    [[["\ud800", tensor]]],
    [[[4, tensor]]],
    [[["a", {}]]],
    [[["a", freed]]],
    [[["a", tensor]], { a: 4 }],
    [[["a", tensor]], null],
  ];
  for (const [tensors, metadata] of bad) {
    const call = (): void => writeSafetensors(path, tensors as [string, Tensor][], metadata as Record<string, string>);
    expect(call).toThrow(LockstepError);
    expect(Buffer.compare(readFileSync(path), before)).toBe(0);
  }
  expect(() => writeSafetensors(folder, [["a", tensor]])).toThrow(SafetensorsError);
});

test("an integer that a number cannot hold is refused", () => {
  const file = fileOf('{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}', 8);
  const bytes = readFileSync(file);
  bytes.writeBigInt64LE(2n ** 53n + 1n, bytes.length - 8);
  writeFileSync(file, bytes);
  using opened = SafetensorsFile.open(file);
  expect(() => opened.readNumbers("i")).toThrow(SafetensorsError);
});

test("a damaged file is refused with a typed error, or read within its own bytes", () => {
  const tensors = DTYPES.map((dtype) => [dtype, Tensor.from(heap, dtype, [2, 3], [1, 2, 3, 4, 5, 6])] as const);
  writeSafetensors(path, tensors, { cases: "[]" });
  const whole = readFileSync(path);
  const header = 8 + Number(whole.readBigUInt64LE(0));
  const damage = fc.record({
    flips: fc.array(fc.record({ at: fc.nat(header - 1), bit: fc.nat(7) }), { minLength: 1, maxLength: 3 }),
    cut: fc.option(fc.nat(whole.length), { freq: 4 }),
  });
  const damaged = join(folder, "damaged.safetensors");
  const free = heap.freeBytes;
  fc.assert(
    fc.property(damage, ({ flips, cut }) => {
      const bytes = Uint8Array.from(whole);
      for (const { at, bit } of flips) bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      writeFileSync(damaged, bytes.subarray(0, cut ?? bytes.length));
      try {
        using file = SafetensorsFile.open(damaged);
        for (const name of file.names) {
          const tensor = file.read(name, heap);
          const { size } = tensor;
          tensor.free();
          expect(file.readNumbers(name).length).toBe(size);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(SafetensorsError);
      }
      expect(heap.freeBytes).toBe(free);
    }),
    { numRuns: 1000, seed: 11 },
  );
});

test("what is no path or no pairs is refused, and nothing is written", () => {
  const file = join(folder, "never.safetensors");
  for (const wrong of [null, undefined, 5, Symbol("tensors"), {}, [1], [null], new Map([["a", 1]]), "ab"]) {
    expect(() => writeSafetensors(file, wrong as never)).toThrow(ArgumentError);
    if (wrong !== "ab") expect(() => writeSafetensors(wrong as never, [])).toThrow(ArgumentError);
  }
  expect(existsSync(file)).toBe(false);
});
