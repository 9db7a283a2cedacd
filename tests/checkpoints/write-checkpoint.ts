// Writes a checkpoint of random weights in Hugging Face format, block by block: it is never whole in memory.
import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { byteTokenizer } from "./byte-tokenizer.ts";
import { RandomBf16 } from "./random-bf16.ts";
import { type ShapeConfig, type TensorShape, tensorShapes } from "./shapes.ts";

/** Elements that are drawn and written at a time. */
const BLOCK = 1 << 20;

export interface CheckpointOptions {
  /** Another seed gives other weights. Default 1. */
  readonly seed?: number;
  /** Most bytes of tensors in a file, but for a single tensor that is larger. Default 600 MB. */
  readonly shardBytes?: number;
}

/**
 * Writes config.json, tokenizer.json, generation_config.json, shard files and their index into `folder`, which is made.
 * Weights are bf16. The same config and seed give the same bytes. The index comes last: a folder that has one is whole.
 */
export function writeCheckpoint(
  folder: string,
  config: ShapeConfig,
  { seed = 1, shardBytes = 600e6 }: CheckpointOptions = {},
): void {
  mkdirSync(folder, { recursive: true });
  const json = (name: string, value: unknown): void => {
    writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
  };
  const { bos_token_id, eos_token_id } = config;
  json("config.json", config);
  json("generation_config.json", { bos_token_id, eos_token_id });
  json("tokenizer.json", byteTokenizer({ "<|begin_of_text|>": bos_token_id, "<|end_of_text|>": eos_token_id }));
  const shards = shardsOf([...tensorShapes(config)], shardBytes);
  const weightMap: Record<string, string> = {};
  let stream = 0;
  for (const [index, tensors] of shards.entries()) {
    const number = (value: number): string => String(value).padStart(5, "0");
    const file = `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`;
    writeShard(join(folder, file), tensors, seed * 100_003 + stream);
    stream += tensors.length;
    for (const { name } of tensors) weightMap[name] = file;
  }
  const total = shards.flat().reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  json("index.part", { metadata: { total_size: total }, weight_map: weightMap });
  renameSync(join(folder, "index.part"), join(folder, "model.safetensors.index.json"));
}

function shardsOf(tensors: readonly TensorShape[], shardBytes: number): TensorShape[][] {
  const shards: TensorShape[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor);
    if (bytes > room) {
      shards.push([]);
      room = shardBytes;
    }
    shards.at(-1)?.push(tensor);
    room -= bytes;
  }
  return shards;
}

function writeShard(path: string, tensors: readonly TensorShape[], firstStream: number): void {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    header[name] = { dtype: "BF16", shape, data_offsets: [offset, offset + bytesOf(tensor)] };
    offset += bytesOf(tensor);
  }
  const text = JSON.stringify(header);
  const bytes = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(bytes.length), true);
  const file = openSync(path, "w");
  try {
    writeAll(file, new Uint8Array(length.buffer));
    writeAll(file, bytes);
    const block = new Uint16Array(BLOCK);
    for (const [index, tensor] of tensors.entries()) {
      const random = new RandomBf16(firstStream + index, tensor.mean, tensor.deviation);
      const count = bytesOf(tensor) / 2;
      for (let done = 0; done < count; done += BLOCK) {
        const part = block.subarray(0, Math.min(BLOCK, count - done));
        random.fill(part);
        writeAll(file, new Uint8Array(part.buffer, 0, part.byteLength));
      }
    }
  } finally {
    closeSync(file);
  }
}

function bytesOf({ shape }: TensorShape): number {
  return 2 * shape.reduce((product, size) => product * size, 1);
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
