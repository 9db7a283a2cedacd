import { type Allocator, type DType, Tensor } from "@lockstep/tensor";
import type { OpName } from "../ops/op-table.ts";

/** Arguments of an op that it accepts, as a record that tests may damage. */
export interface ValidArguments {
  readonly op: OpName;
  readonly args: Readonly<Record<string, unknown>>;
  /** Names of the tensors that the op reads, and of those that it writes. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Pairs of an output and an input that may be the same tensor. */
  readonly inPlace: Readonly<Record<string, string>>;
}

/** One set of small arguments for every op. */
export function validArguments(allocator: Allocator): readonly ValidArguments[] {
  const tensor = (dtype: DType, shape: number[], value = 1): Tensor =>
    Tensor.empty(allocator, dtype, shape).fill(value);
  const f32 = (...shape: number[]): Tensor => tensor("f32", shape);
  return [
    {
      op: "correctAttnOut",
      args: { partialOut: f32(2, 3, 8), lses: f32(2, 2, 3), rank: 1, base: "e", out: f32(2, 3, 8), lse: f32(2, 3) },
      inputs: ["partialOut", "lses"],
      outputs: ["out", "lse"],
      inPlace: { out: "partialOut" },
    },
    {
      op: "packSeq",
      args: { x: f32(6, 4), lengths: [2, 4], out: f32(2, 4, 4), padValue: 0, blockT: 64, blockD: 64 },
      inputs: ["x"],
      outputs: ["out"],
      inPlace: {},
    },
    {
      op: "unpackSeq",
      args: { packed: f32(2, 4, 4), lengths: [2, 4], out: f32(6, 4), blockT: 64, blockD: 64 },
      inputs: ["packed"],
      outputs: ["out"],
      inPlace: {},
    },
    {
      op: "mergeAttnStates",
      args: {
        outs: [f32(2, 3, 8), f32(2, 3, 8)],
        lses: [f32(2, 3), f32(2, 3)],
        base: "2",
        out: f32(2, 3, 8),
        lse: f32(2, 3),
      },
      inputs: ["outs", "lses"],
      outputs: ["out", "lse"],
      inPlace: {},
    },
    {
      op: "writeKvCache",
      args: {
        key: f32(2, 2, 4),
        value: f32(2, 2, 4),
        slotMapping: [5, -1],
        keyCache: tensor("i8", [2, 4, 2, 4]),
        valueCache: tensor("i8", [2, 4, 2, 4]),
        keyScaleCache: f32(2, 4, 2, 1),
        valueScaleCache: f32(2, 4, 2, 1),
      },
      inputs: ["key", "value"],
      outputs: ["keyCache", "valueCache", "keyScaleCache", "valueScaleCache"],
      inPlace: {},
    },
    {
      op: "gatherKvCache",
      args: { cache: f32(2, 4, 2, 4), slots: [3, 0, 7], rows: f32(3, 2, 4) },
      inputs: ["cache"],
      outputs: ["rows"],
      inPlace: {},
    },
    {
      op: "partialAttention",
      args: {
        query: f32(2, 4, 8),
        keyCache: tensor("i8", [3, 4, 2, 8]),
        valueCache: tensor("i8", [3, 4, 2, 8]),
        keyScaleCache: f32(3, 4, 2, 1),
        valueScaleCache: f32(3, 4, 2, 1),
        blockTable: Tensor.from(allocator, "i32", [2, 2], [0, 1, 2, 0]),
        sequences: [0, 1],
        positions: [4, 2],
        shard: { index: 0, count: 1, interleave: 1 },
        segments: [
          { first: 0, count: 8 },
          { first: 0, count: 8 },
        ],
        scale: 0.5,
        softcap: 3,
        window: 4,
        headGroup: { size: 2, offset: 0 },
        sinks: f32(4),
        out: f32(2, 4, 8),
        lse: f32(2, 4),
      },
      inputs: ["query", "keyCache", "valueCache", "keyScaleCache", "valueScaleCache", "blockTable", "sinks"],
      outputs: ["out", "lse"],
      inPlace: {},
    },
  ];
}
