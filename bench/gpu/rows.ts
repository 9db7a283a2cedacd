import { decodeRow } from "./attention-rows.ts";
import type { BenchRow } from "./bench-row.ts";
import { correctRow, mergeRow } from "./combine-rows.ts";
import { packRow, unpackRow, writeRow } from "./sequence-rows.ts";

const GQA = { kvHeads: 8, queryHeads: 32, keyDim: 128, dtype: "f16" } as const;
const LONG = { ...GQA, batch: 1, length: 131072 } as const;
const MANY = { ...GQA, batch: 32, length: 8192 } as const;
const MLA = { kvHeads: 1, keyDim: 576, latentValueDim: 512, dtype: "f16" } as const;

/** What `bench:gpu` measures. */
export const ROWS: readonly BenchRow[] = [
  correctRow(8, 256, 128, 512, "bf16"),
  correctRow(8, 256, 128, 512, "f32"),
  correctRow(8, 64, 128, 128, "f32"),
  correctRow(8, 1024, 64, 128, "f32"),
  correctRow(8, 4096, 128, 128, "f32"),
  correctRow(8, 4096, 128, 128, "f16"),
  correctRow(4, 8, 32, 128, "f32"),
  packRow(64, 2048, 1024, "f32"),
  unpackRow(64, 2048, 1024, "f32"),
  packRow(256, 512, 4096, "bf16"),
  unpackRow(256, 512, 4096, "bf16"),
  packRow(64, 4095, 2048, "f32"),
  unpackRow(64, 4095, 2048, "f32"),
  mergeRow(2, 4096, 64, 128, "f32"),
  mergeRow(8, 1024, 64, 128, "f32"),
  mergeRow(4, 1024, 128, 512, "bf16"),
  mergeRow(4, 8, 32, 128, "f32"),
  writeRow(65536, 8, 128, "bf16", "bf16"),
  writeRow(65536, 8, 128, "f32", "f16"),
  writeRow(4096, 8, 128, "f32", "f32"),
  decodeRow(LONG),
  decodeRow({ ...GQA, batch: 8, length: 32768 }),
  decodeRow(MANY),
  decodeRow({ ...GQA, batch: 1, queryHeads: 64, length: 1048576 - 16 }),
  decodeRow({ batch: 16, queryHeads: 16, kvHeads: 1, length: 16384, keyDim: 128, dtype: "f16" }),
  decodeRow({ ...LONG, blockSize: 16 }),
  decodeRow({ ...MANY, blockSize: 16 }),
  decodeRow({ ...MANY, dtype: "bf16" }),
  decodeRow({ ...MANY, dtype: "f32" }),
  decodeRow({ ...GQA, batch: 1, length: 8192 }),
  decodeRow({ ...MLA, batch: 1, queryHeads: 16, length: 131072 }),
  decodeRow({ ...MLA, batch: 1, queryHeads: 16, length: 131072, queryDType: "f16" }),
  decodeRow({ ...MLA, batch: 64, queryHeads: 128, length: 8192, queryDType: "f16" }),
  decodeRow({ ...LONG, worldInvariant: true }),
  decodeRow({ ...MANY, worldInvariant: true }),
  decodeRow({ ...MANY, dtype: "f32", worldInvariant: true }),
  decodeRow({ ...GQA, batch: 1, length: 16384 }),
  decodeRow({ ...GQA, batch: 1, length: 16384, worldInvariant: true }),
  decodeRow({ ...MLA, batch: 1, queryHeads: 16, length: 131072, worldInvariant: true }),
];

/** The same ops at shapes that a software adapter can run: for checking the bench, never for speed. */
export const SMALL_ROWS: readonly BenchRow[] = [
  correctRow(8, 4, 8, 64, "bf16"),
  correctRow(3, 4, 8, 64, "f16"),
  packRow(3, 20, 64, "f32"),
  unpackRow(3, 20, 64, "bf16"),
  mergeRow(3, 4, 8, 64, "f16"),
  writeRow(64, 2, 64, "f32", "f16"),
  decodeRow({ ...GQA, batch: 2, length: 512, blockSize: 16 }),
  decodeRow({ batch: 1, queryHeads: 8, kvHeads: 1, length: 300, keyDim: 64, dtype: "bf16" }),
  decodeRow({ ...MLA, batch: 1, queryHeads: 4, length: 64 }),
  decodeRow({ ...GQA, batch: 2, length: 512, blockSize: 16, worldInvariant: true }),
];
