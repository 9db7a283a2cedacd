import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, float8ToNumber, numberToFloat8, SharedHeap, Tensor } from "@lockstep/tensor";
import { GpuTensor } from "../../gpu-tensor.ts";
import { expectSameBits } from "../../testing/close.ts";
import { expectRejected, TEST_TIMEOUT_MS, testCases } from "../../testing/op-case.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { type HeapWriteKvCacheArgs, WRITE_KV_CACHE_CASES } from "./cases.ts";
import type { WriteKvCacheArgs } from "./index.ts";
import { writeKvCacheReference } from "./reference.ts";
import { SlotPlan } from "./slot-plan.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

const op = {
  cases: WRITE_KV_CACHE_CASES,
  outputs: (args: HeapWriteKvCacheArgs) =>
    (["keyCache", "valueCache", "keyScaleCache", "valueScaleCache"] as const).flatMap((name) => {
      const tensor = args[name];
      return tensor === undefined ? [] : [[name, tensor] as const];
    }),
  reference: writeKvCacheReference,
};
testCases(heap, backends, { ...op, name: "writeKvCache", run: (backend, args) => backend.writeKvCache(args) });
testCases(heap, backends, {
  ...op,
  name: "writeKvCache to planned slots",
  run: (backend, args) => {
    const [numBlocks = 0, blockSize = 0] = args.keyCache.shape;
    const slotMapping = args.slotMapping instanceof SlotPlan ? args.slotMapping.slots : args.slotMapping;
    return backend.writeKvCache({ ...args, slotMapping: new SlotPlan(slotMapping, { numBlocks, blockSize }) });
  },
});

const f32 = (...shape: number[]): Tensor => Tensor.empty(heap, "f32", shape).fill(1);
const f8 = (...shape: number[]): Tensor => Tensor.zeros(heap, "f8e4m3", shape);
const good = {
  key: f32(3, 2, 4),
  value: f32(3, 2, 5),
  slotMapping: [0, -1, 5],
  keyCache: f32(3, 2, 2, 4),
  valueCache: f32(3, 2, 2, 5),
};
const eightBit = { keyCache: f8(3, 2, 2, 4), valueCache: f8(3, 2, 2, 5) };
const { value: _value, ...withoutValue } = good;
const columns = f32(3, 2, 2, 8).slice(3, 0, 8, 2);
const BAD: readonly [what: string, changes: Partial<WriteKvCacheArgs>, message: RegExp][] = [
  ["keys of two dimensions", { key: f32(3, 8) }, /`key` must be of shape \[any, any, any\]/],
  ["integer keys", { key: Tensor.zeros(heap, "i32", [3, 2, 4]) }, /`key` must be of dtype f32, f16, bf16/],
  ["values of other heads", { value: f32(3, 1, 5) }, /`value` must be of shape \[3, 2, any\]/],
  ["values of another dtype", { value: Tensor.zeros(heap, "f16", [3, 2, 5]) }, /`value` must be of dtype f32/],
  ["a cache of another head dim", { keyCache: f32(3, 2, 2, 5) }, /`keyCache` must be of shape \[any, any, 2, 4\]/],
  ["caches of different blocks", { valueCache: f32(3, 1, 2, 5) }, /`valueCache` must be of shape \[3, 2, 2, 5\]/],
  [
    "caches of two dtypes",
    { valueCache: Tensor.zeros(heap, "f16", [3, 2, 2, 5]) },
    /`valueCache` must be of dtype f32/,
  ],
  ["a cache of gaps between columns", { keyCache: columns }, /`keyCache` must be of stride 1 in its last dimension/],
  [
    "an f8 cache without scales",
    { keyCache: f8(3, 2, 2, 4), valueCache: f8(3, 2, 2, 5) },
    /`keyScale` must be 1 scale, or 2 for the KV heads \(or `keyScaleCache`\), because .* is f8e4m3, but is left out/,
  ],
  [
    "scales for rows that are quantised already",
    { key: f8(3, 2, 4), value: f8(3, 2, 5), keyCache: f8(3, 2, 2, 4), valueCache: f8(3, 2, 2, 5), keyScale: [1] },
    /`keyScale` must be left out for rows that are f8e4m3 already/,
  ],
  [
    "row scales of a cache of floats",
    { keyScaleCache: f32(3, 2, 2, 1) },
    /`keyScaleCache` must be left out for a `keyCache` of f32/,
  ],
  [
    "row scales beside scales of heads",
    { ...eightBit, keyScaleCache: f32(3, 2, 2, 1), valueScaleCache: f32(3, 2, 2, 1), keyScale: [1] },
    /`keyScale` must be left out with `keyScaleCache`/,
  ],
  [
    "row scales of another shape",
    { ...eightBit, keyScaleCache: f32(3, 2, 2), valueScaleCache: f32(3, 2, 2, 1) },
    /`keyScaleCache` must be of shape \[3, 2, 2, 1\], but is/,
  ],
  [
    "row scales in f16",
    { ...eightBit, keyScaleCache: Tensor.zeros(heap, "f16", [3, 2, 2, 1]), valueScaleCache: f32(3, 2, 2, 1) },
    /`keyScaleCache` must be of dtype f32, but is f16/,
  ],
  [
    "row scales of keys alone",
    { ...eightBit, keyScaleCache: f32(3, 2, 2, 1), valueScale: [1] },
    /`valueScaleCache` must be given or left out like `keyScaleCache`, but is left out/,
  ],
  [
    "row scales for rows that are quantised already",
    { ...eightBit, key: f8(3, 2, 4), value: f8(3, 2, 5), keyScaleCache: f32(3, 2, 2, 1) },
    /`keyScaleCache` must be left out for rows that are f8e4m3 already/,
  ],
  ["f8 rows for a cache of floats", { key: f8(3, 2, 4) }, /`key` must be of dtype f32, f16, bf16, but is f8e4m3/],
  ["too few slots", { slotMapping: [0, 1] }, /`slotMapping` must be 3 slots, one per token of key, but is 2/],
  [
    "a slot beyond the cache",
    { slotMapping: [0, 1, 6] },
    /`slotMapping` must be -1 or from 0 to 5, but is 6 at index 2/,
  ],
  ["a slot of -2", { slotMapping: [0, -2, 1] }, /`slotMapping`/],
  ["a fractional slot", { slotMapping: [0, 1.5, 1] }, /`slotMapping`/],
  ["a slot twice", { slotMapping: [4, 1, 4] }, /`slotMapping` must be slots that differ, but is 4 twice/],
];

for (const backend of backends) {
  describe(`writeKvCache on ${backend.name} rejects`, () => {
    const written = [good.keyCache, good.valueCache];
    for (const [what, changes, message] of BAD) {
      test(what, () =>
        expectRejected(() => backend.writeKvCache({ ...good, ...changes }), ArgumentError, message, written),
      );
    }
    test("a value cache without values", () =>
      expectRejected(
        () => backend.writeKvCache(withoutValue),
        ArgumentError,
        /`value, valueCache` must be both/,
        written,
      ));
  });

  test(
    `every 16-bit pattern converts to f32 and back on ${backend.name}`,
    async () => {
      for (const dtype of ["f16", "bf16"] as const) {
        const patterns = Tensor.empty(heap, dtype, [256, 1, 256]);
        for (let bits = 0; bits < 65536; bits++) patterns.elements[bits] = bits;
        const wide = Tensor.empty(heap, "f32", [256, 1, 1, 256]);
        const narrow = Tensor.empty(heap, dtype, [256, 1, 1, 256]);
        const slotMapping = Array.from({ length: 256 }, (_, slot) => slot);
        await backend.writeKvCache({ key: patterns, slotMapping, keyCache: wide });
        await backend.writeKvCache({ key: wide.select(1, 0), slotMapping, keyCache: narrow });
        const numbers = patterns.toNumbers();
        // Subnormal bf16 numbers are subnormal f32 numbers, which GPUs may flush to zero.
        const kept = (index: number): boolean =>
          backend.name !== "webgpu" || dtype === "f16" || Math.abs(numbers[index] ?? 0) >= 2 ** -126;
        const widened = wide.toNumbers();
        const returned = narrow.toNumbers();
        const wrong = Array.from({ length: 65536 }, (_, bits) => bits).filter(
          (bits) =>
            kept(bits) && !(Object.is(widened[bits], numbers[bits]) && Object.is(returned[bits], numbers[bits])),
        );
        expect(wrong).toEqual([]);
        for (const tensor of [patterns, wide, narrow]) tensor.free();
      }
    },
    TEST_TIMEOUT_MS,
  );

  test(
    `f32 rounds to 8 bits as the reference does, around every number and midpoint, on ${backend.name}`,
    async () => {
      const numbers: number[] = [];
      const around = (x: number): void => {
        for (const y of [x, x * (1 + 2 ** -20), x * (1 - 2 ** -20), x + 2 ** -30]) numbers.push(y, -y);
      };
      for (let bits = 0; bits < 127; bits++) {
        around(float8ToNumber(bits));
        if (bits < 126) around((float8ToNumber(bits) + float8ToNumber(bits + 1)) / 2);
      }
      for (let half = 0; half <= 260; half++) around(half / 2);
      const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
      numbers.push(nan, inf, -inf, 1e38, -1e38, 1e-38, 464, 465, 127.5, -128.5, -129);
      const key = Tensor.from(heap, "f32", [1, 1, numbers.length], numbers);
      for (const dtype of ["f8e4m3", "i8"] as const) {
        for (const scale of [1, 0.7]) {
          const actual = Tensor.zeros(heap, dtype, [1, 1, 1, numbers.length]);
          const expected = Tensor.zeros(heap, dtype, [1, 1, 1, numbers.length]);
          await backend.writeKvCache({ key, slotMapping: [0], keyCache: actual, keyScale: [scale] });
          writeKvCacheReference({ key, slotMapping: [0], keyCache: expected, keyScale: [scale] });
          expectSameBits(`${dtype}, scale ${scale}`, actual, expected);
          if (dtype === "f8e4m3" && scale === 1) {
            expect([...expected.elements]).toEqual(numbers.map((x) => numberToFloat8(x)));
          }
          actual.free();
          expected.free();
        }
      }
      key.free();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    `f32 rounds to 16 bits as the reference does, all exponents, on ${backend.name}`,
    async () => {
      // Around every binary16 number and midpoint: the pattern itself and its neighbours.
      const source = Tensor.empty(heap, "f32", [64, 1, 1024]);
      const raw = new Uint32Array(heap.buffer, source.byteOffset, 65536);
      let at = 0;
      for (let exponent = 64; exponent < 192; exponent++) {
        for (let step = 0; step < 256; step++) {
          const fraction = (step << 15) + ([0, 0x1000, 0x2fff, 0x3001, 0x7fff][step % 5] ?? 0);
          raw[at++] = (exponent << 23) + fraction;
          raw[at++] = ((exponent << 23) + fraction + 0x80000000 + (step % 3) - 1) >>> 0;
        }
      }
      const slotMapping = Array.from({ length: 64 }, (_, slot) => slot);
      for (const dtype of ["f16", "bf16"] as const) {
        const actual = Tensor.zeros(heap, dtype, [64, 1, 1, 1024]);
        const expected = Tensor.zeros(heap, dtype, [64, 1, 1, 1024]);
        await backend.writeKvCache({ key: source, slotMapping, keyCache: actual });
        writeKvCacheReference({ key: source, slotMapping, keyCache: expected });
        expectSameBits(dtype, actual, expected);
        actual.free();
        expected.free();
      }
      source.free();
    },
    TEST_TIMEOUT_MS,
  );
}

for (const backend of backends.filter(({ name }) => name === "webgpu")) {
  test("caches in one buffer on a GPU, key and value blocks in turn or all keys first", async () => {
    const [blocks, blockSize, heads, dim] = [5, 4, 3, 64];
    const rows = (first: number): Tensor =>
      Tensor.from(
        heap,
        "f32",
        [7, heads, dim],
        Array.from({ length: 7 * heads * dim }, (_, i) => first + i),
      );
    const slotMapping = [3, 0, 19, -1, 8, 7, 11];
    const size = blockSize * heads * dim;
    for (const [blockStride, valuesAt] of [
      [2 * size, size],
      [size, blocks * size],
    ] as const) {
      const whole = backend.empty("f32", [2 * blocks * size]);
      if (!(whole instanceof GpuTensor)) throw new TypeError("the backend computes on a GPU");
      await backend.upload(Tensor.zeros(heap, "f32", [2 * blocks * size]), whole);
      const view = (offset: number): GpuTensor =>
        new GpuTensor(
          whole.buffer,
          "f32",
          [blocks, blockSize, heads, dim],
          [blockStride, heads * dim, dim, 1],
          offset,
          () => whole.free(),
        );
      const args = { key: rows(1), value: rows(10_000), slotMapping };
      await backend.writeKvCache({ ...args, keyCache: view(0), valueCache: view(valuesAt) });
      const expected = Tensor.zeros(heap, "f32", [2 * blocks * size]);
      const strides = [blockStride, heads * dim, dim, 1];
      for (const [token, slot] of slotMapping.entries()) {
        if (slot < 0) continue;
        const at = Math.floor(slot / blockSize) * (strides[0] ?? 0) + (slot % blockSize) * (strides[1] ?? 0);
        for (let i = 0; i < heads * dim; i++) {
          expected.f32[at + i] = 1 + token * heads * dim + i;
          expected.f32[valuesAt + at + i] = 10_000 + token * heads * dim + i;
        }
      }
      const actual = Tensor.empty(heap, "f32", [2 * blocks * size]);
      await backend.download(whole, actual);
      expectSameBits("caches", actual, expected);
      whole.free();
    }
  });
}
