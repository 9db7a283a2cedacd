// Packing of sequences into a padded batch, and back.
import type { DType } from "@lockstep/tensor";
import { Random } from "../../../../libs/kernels/src/testing/random.ts";
import type { CorpusBuilder } from "./corpus-builder.ts";
import { sizeOf, type Values } from "./corpus-values.ts";
import { normals, rounded } from "./rounded.ts";

interface PackCase {
  readonly name: string;
  readonly lengths: readonly number[];
  readonly columns: readonly number[];
  readonly dtype?: DType;
  readonly pad?: number | "-inf";
  /** Rows after the last sequence, which belong to none. */
  readonly beyond?: number;
}

const CASES: readonly PackCase[] = [
  { name: "equal-lengths", lengths: [3, 3], columns: [4] },
  { name: "two-dimensions", lengths: [2, 4, 4], columns: [2, 3], pad: 0.5 },
  { name: "five-each", lengths: [5, 5, 5, 5], columns: [2], pad: -100 },
  { name: "falling", lengths: [7, 5, 3], columns: [3], pad: 100 },
  { name: "rows-beyond", lengths: [1, 1, 2], columns: [5], beyond: 17, pad: 7 },
  { name: "one-sequence", lengths: [9], columns: [1] },
  { name: "empty-sequences", lengths: [0, 3, 0, 1, 0], columns: [3] },
  { name: "no-columns", lengths: [2, 3, 1], columns: [], pad: -2 },
  { name: "odd-width", lengths: [65, 2, 1], columns: [13], pad: 3 },
  { name: "f16", lengths: [2, 3, 1], columns: [6], dtype: "f16" },
  { name: "bf16", lengths: [2, 3, 1], columns: [6], dtype: "bf16" },
  { name: "u8", lengths: [2, 0, 3], columns: [5], dtype: "u8", pad: 200 },
  { name: "i32", lengths: [2, 0, 3], columns: [5], dtype: "i32", pad: -7 },
];

/** Adds all of them. */
export function addPackCases(builder: CorpusBuilder): void {
  const random = new Random(20_250_702);
  for (const { name, lengths, columns, dtype = "f32", pad = "-inf", beyond = 0 } of CASES) {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const longest = Math.max(...lengths);
    const counts: Values = { dtype: "i32", shape: [lengths.length], numbers: lengths };
    const x = tensor(random, dtype, [total + beyond, ...columns]);
    builder.add({ name: `pack_seq/${name}`, op: "pack_seq", parameters: { pad }, inputs: { x, lengths: counts } });
    const packed = tensor(random, dtype, [lengths.length, longest, ...columns]);
    const inputs = { packed, lengths: counts };
    builder.add({ name: `unpack_seq/${name}`, op: "unpack_seq", parameters: {}, inputs });
  }
  addRefusals(builder, random);
}

function tensor(random: Random, dtype: DType, shape: readonly number[]): Values {
  const count = sizeOf(shape);
  if (dtype === "u8") return { dtype, shape, numbers: Array.from({ length: count }, () => random.integer(256)) };
  if (dtype === "i32") return { dtype, shape, numbers: Array.from({ length: count }, () => random.integer(999) - 500) };
  return { dtype, shape, numbers: rounded(dtype, normals(random, dtype, count)) };
}

function addRefusals(builder: CorpusBuilder, random: Random): void {
  const x = tensor(random, "f32", [4, 3]);
  const packed = tensor(random, "f32", [2, 3, 2]);
  const lengths = (...numbers: number[]): Values => ({ dtype: "i32", shape: [numbers.length], numbers });
  const op = "pack_seq";
  builder.add({
    name: "pack_seq/more-than-there-are",
    op,
    parameters: {},
    inputs: { x, lengths: lengths(3, 2) },
    refuse: "The lengths sum to 5; there are 4 rows.",
  });
  builder.add({
    name: "pack_seq/negative-length",
    op,
    parameters: {},
    inputs: { x, lengths: lengths(3, -1, 2) },
    refuse: "A length is negative.",
  });
  builder.add({
    name: "unpack_seq/longer-than-padded",
    op: "unpack_seq",
    parameters: {},
    inputs: { packed, lengths: lengths(2, 4) },
    refuse: "A length is 4; the padded batch has 3 rows a sequence.",
  });
}
