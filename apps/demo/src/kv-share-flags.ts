// The flags by which ranks with unequal memories are told apart: --kv-weights 3,1 and --kv-bytes 3GiB,1GiB.
import { UsageError } from "./errors.ts";

const MOST_WEIGHTS = 65536;
const UNITS: Readonly<Record<string, number>> = { "": 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** What each rank that shares a KV cache stores beside the others; undefined when the flag is left out. */
export function readKvWeights(text: string | undefined): readonly number[] | undefined {
  if (text === undefined) return undefined;
  const weights = text.split(",").map((part) => (/^\d{1,5}$/.test(part) ? Number(part) : Number.NaN));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (sum >= 1 && sum <= MOST_WEIGHTS) return weights;
  const expected = `whole numbers with commas between them, as 3,1, whose sum is from 1 to ${MOST_WEIGHTS}`;
  throw new UsageError(`--kv-weights must be ${expected}, but is ${text}.`);
}

/** Bytes that each rank that shares a KV cache has for it; undefined when the flag is left out. */
export function readKvBytes(text: string | undefined): readonly number[] | undefined {
  if (text === undefined) return undefined;
  const sizes = text.split(",").map((part) => {
    const [, number = "", unit = ""] = /^(\d{1,15}(?:\.\d{1,9})?)(B|KiB|MiB|GiB|TiB|)$/.exec(part) ?? [];
    return number === "" ? Number.NaN : Math.floor(Number(number) * (UNITS[unit] ?? Number.NaN));
  });
  const sum = sizes.reduce((total, size) => total + size, 0);
  if (sum >= 1 && sum <= 2 ** 50) return sizes;
  throw new UsageError(`--kv-bytes must be sizes with commas between them, as 3GiB,512MiB, but is ${text}.`);
}
