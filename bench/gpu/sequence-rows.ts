import type { GpuTensor } from "@lockstep/kernels";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type { FloatDType } from "../../libs/kernels/src/webgpu/wgsl-operands.ts";
import { at, type BenchRow, freeAll, samples, setsFor } from "./bench-row.ts";
import type { GpuBench } from "./gpu-bench.ts";
import { type RandomValues, randomValue, shuffled } from "./random-values.ts";

/** Lengths uniform in [Lmax / 2, Lmax], the first Lmax. */
function randomLengths(batch: number, longest: number): number[] {
  const values: RandomValues = { dtype: "f32", seed: 99, scale: 1 };
  return Array.from({ length: batch }, (_, b) =>
    b === 0 ? longest : Math.round(longest * (0.75 + 0.25 * randomValue(values, b))),
  );
}

/** pack-seq: sequences one after another [T, D] into a padded batch [B, Lmax, D]. */
export function packRow(batch: number, longest: number, d: number, dtype: FloatDType): BenchRow {
  const lengths = randomLengths(batch, longest);
  const starts = lengths.map((_, b) => lengths.slice(0, b).reduce((sum, length) => sum + length, 0));
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const bytes = (tokens + batch * longest) * d * DTYPE_BYTES[dtype];
  return {
    op: "pack-seq",
    shape: `B${batch} Lmax${longest} D${d}`,
    dtype,
    bytes,
    ceiling: "copy",
    prepare: async (bench) => {
      const values: RandomValues = { dtype, seed: 5, scale: 1 };
      const x = await bench.random(values, [tokens, d]);
      const out = bench.empty(dtype, [batch, longest, d]);
      return {
        run: () => bench.backend.packSeq({ x, lengths, out }),
        outputs: [out],
        error: async () => {
          let wrong = 0;
          for (const b of samples(batch, 8)) {
            const length = lengths[b] ?? 0;
            for (const row of [0, length - 1, length, longest - 1].filter((row) => row < longest)) {
              const actual = await bench.numbers(out.slice(0, b, b + 1).slice(1, row, row + 1));
              const first = ((starts[b] ?? 0) + row) * d;
              const isPad = row >= length;
              for (let column = 0; column < d; column++) {
                const expected = isPad ? Number.NEGATIVE_INFINITY : randomValue(values, first + column);
                if (actual[column] !== expected) wrong++;
              }
            }
          }
          return wrong;
        },
        free: () => freeAll([x, out]),
      };
    },
  };
}

/** unpack-seq: a padded batch [B, Lmax, D] into sequences one after another [T, D]. */
export function unpackRow(batch: number, longest: number, d: number, dtype: FloatDType): BenchRow {
  const lengths = randomLengths(batch, longest);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const bytes = 2 * tokens * d * DTYPE_BYTES[dtype];
  return {
    op: "unpack-seq",
    shape: `B${batch} Lmax${longest} D${d}`,
    dtype,
    bytes,
    ceiling: "copy",
    prepare: async (bench) => {
      const values: RandomValues = { dtype, seed: 5, scale: 1 };
      const packed = await bench.random(values, [batch, longest, d]);
      const out = bench.empty(dtype, [tokens, d]);
      return {
        run: () => bench.backend.unpackSeq({ packed, lengths, out }),
        outputs: [out],
        error: async () => {
          let wrong = 0;
          let start = 0;
          for (const [b, length] of lengths.entries()) {
            if (samples(batch, 8).includes(b)) {
              for (const row of [0, length - 1]) {
                const actual = await bench.numbers(out.slice(0, start + row, start + row + 1));
                for (let column = 0; column < d; column++) {
                  if (actual[column] !== randomValue(values, (b * longest + row) * d + column)) wrong++;
                }
              }
            }
            start += length;
          }
          return wrong;
        },
        free: () => freeAll([packed, out]),
      };
    },
  };
}

/** write-kv-cache: keys and values of T new tokens to slots in random order. */
export function writeRow(t: number, heads: number, d: number, from: FloatDType, to: FloatDType): BenchRow {
  const bytes = 2 * t * heads * d * (DTYPE_BYTES[from] + DTYPE_BYTES[to]) + 8 * t;
  const blockSize = 16;
  return {
    op: "write-kv-cache",
    shape: `T${t} Hkv${heads} D${d} bs${blockSize}`,
    dtype: from === to ? from : `${from}->${to}`,
    bytes,
    ceiling: "copy",
    prepare: async (bench) => {
      const seeds = (set: number): [number, number] => [1000 * set, 1000 * set + 500];
      const sets = await Promise.all(
        Array.from({ length: setsFor(bytes) }, async (_, set) => {
          const [key, value] = await Promise.all(
            seeds(set).map((seed) => bench.random({ dtype: from, seed, scale: 1 }, [t, heads, d])),
          );
          if (key === undefined || value === undefined) throw new RangeError("no rows");
          const shape = [t / blockSize, blockSize, heads, d];
          return { key, value, keyCache: bench.empty(to, shape), valueCache: bench.empty(to, shape) };
        }),
      );
      const slotMapping = shuffled(t);
      return {
        run: (call) => bench.backend.writeKvCache({ ...at(sets, call), slotMapping }),
        outputs: [at(sets, 0).keyCache, at(sets, 0).valueCache],
        error: () => writeErrors(bench, at(sets, 0), seeds(0), from, to, slotMapping),
        free: () => freeAll(sets.flatMap((set) => Object.values(set))),
      };
    },
  };
}

async function writeErrors(
  bench: GpuBench,
  caches: { readonly keyCache: GpuTensor; readonly valueCache: GpuTensor },
  seeds: readonly [number, number],
  from: FloatDType,
  to: FloatDType,
  slotMapping: Int32Array,
): Promise<number> {
  let wrong = 0;
  const tolerance = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8 }[to];
  for (const token of samples(slotMapping.length)) {
    const slot = slotMapping[token] ?? 0;
    for (const [index, cache] of [caches.keyCache, caches.valueCache].entries()) {
      const [, blockSize = 1, heads = 0, d = 0] = cache.shape;
      const [block, place] = [Math.floor(slot / blockSize), slot % blockSize];
      const actual = await bench.numbers(cache.slice(0, block, block + 1).slice(1, place, place + 1));
      for (const [element, got] of actual.entries()) {
        const values = { dtype: from, seed: seeds[index] ?? 0, scale: 1 };
        const expected = randomValue(values, token * heads * d + element);
        if (!(Math.abs(got - expected) <= tolerance * Math.abs(expected) + (to === "f16" ? 2 ** -25 : 0))) wrong++;
      }
    }
  }
  return wrong;
}
