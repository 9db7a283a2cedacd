import { existsSync } from "node:fs";
import { join } from "node:path";
import { DTYPE_BYTES, elementCount, formatShape, isFloatDType, SafetensorsFile } from "@lockstep/tensor";
import { type Architecture, findArchitecture } from "./architectures.ts";
import type { ModelConfig } from "./config.ts";
import { ModelError } from "./errors.ts";
import { isJsonObject, readJsonObject } from "./json-file.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** The weights of a model folder: `model.safetensors`, or the files that `model.safetensors.index.json` lists. */
export class Checkpoint implements Disposable {
  readonly architecture: Architecture;
  readonly #config: ModelConfig;
  readonly #folder: string;
  readonly #files: readonly SafetensorsFile[];

  private constructor(
    architecture: Architecture,
    config: ModelConfig,
    folder: string,
    files: readonly SafetensorsFile[],
  ) {
    this.architecture = architecture;
    this.#config = config;
    this.#folder = folder;
    this.#files = files;
  }

  /**
   * Opens every file of a checkpoint and checks that each tensor the model needs is there, whole, with the shape its
   * config asks for. Throws {@link ModelError} or SafetensorsError; reads headers only.
   */
  static open(folder: string, config: ModelConfig): Checkpoint {
    const architecture = findArchitecture(config.architecture);
    if (architecture === undefined) throw new ModelError(folder, "a known architecture", config.architecture);
    const files: SafetensorsFile[] = [];
    const checkpoint = new Checkpoint(architecture, config, folder, files);
    try {
      for (const name of weightFiles(folder)) files.push(SafetensorsFile.open(join(folder, name)));
      for (const [name, shape] of expectedShapes(architecture, config)) checkpoint.#check(name, shape);
      return checkpoint;
    } catch (error) {
      checkpoint.close();
      throw error;
    }
  }

  /** The file that holds a tensor. */
  fileOf(name: string): SafetensorsFile {
    const file = this.#files.find((candidate) => candidate.has(name));
    if (file === undefined) throw new ModelError(this.#folder, `a tensor ${name}`, "none in its safetensors files");
    return file;
  }

  /** Bytes of the largest tensor as stored: room a reader needs besides what it keeps. */
  get largestTensorBytes(): number {
    let largest = 0;
    for (const [name] of expectedShapes(this.architecture, this.#config)) {
      const { dtype, shape } = this.fileOf(name).info(name);
      largest = Math.max(largest, elementCount(shape) * DTYPE_BYTES[dtype]);
    }
    return largest;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(name: string, shape: readonly number[]): void {
    const file = this.fileOf(name);
    const info = file.info(name);
    if (info.shape.length !== shape.length || info.shape.some((size, dim) => size !== shape[dim])) {
      throw new ModelError(file.path, `${name} of shape ${formatShape(shape)}`, formatShape(info.shape));
    }
    if (!isFloatDType(info.dtype)) throw new ModelError(file.path, `${name} in f32, f16 or bf16`, info.dtype);
  }
}

function weightFiles(folder: string): string[] {
  const index = join(folder, INDEX);
  if (existsSync(join(folder, SINGLE)) || !existsSync(index)) return [SINGLE];
  const map = readJsonObject(index).weight_map;
  if (!isJsonObject(map)) throw new ModelError(index, "an object weight_map", "none");
  return [...new Set(Object.values(map).map(String))];
}

/** Name and shape of every tensor a model of this config has. */
export function expectedShapes(architecture: Architecture, config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, headDim } = config;
  const queryRows = config.queryHeads * headDim;
  const kvRows = config.kvHeads * headDim;
  const shapes = new Map<string, readonly number[]>();
  shapes.set(architecture.embedding, [config.vocabularySize, hiddenSize]);
  shapes.set(architecture.finalNorm, [hiddenSize]);
  if (!config.tiedEmbeddings) shapes.set(architecture.output, [config.vocabularySize, hiddenSize]);
  for (let index = 0; index < config.layers; index++) {
    const names = architecture.layer(index);
    shapes.set(names.attentionNorm, [hiddenSize]);
    shapes.set(names.query, [queryRows, hiddenSize]);
    shapes.set(names.key, [kvRows, hiddenSize]);
    shapes.set(names.value, [kvRows, hiddenSize]);
    shapes.set(names.attentionOutput, [hiddenSize, queryRows]);
    if (config.attentionBias !== "none") {
      shapes.set(names.queryBias, [queryRows]);
      shapes.set(names.keyBias, [kvRows]);
      shapes.set(names.valueBias, [kvRows]);
    }
    if (config.attentionBias === "qkvo") shapes.set(names.attentionOutputBias, [hiddenSize]);
    if (config.queryKeyNorm) {
      shapes.set(names.queryNorm, [headDim]);
      shapes.set(names.keyNorm, [headDim]);
    }
    shapes.set(names.mlpNorm, [hiddenSize]);
    shapes.set(names.gate, [intermediateSize, hiddenSize]);
    shapes.set(names.up, [intermediateSize, hiddenSize]);
    shapes.set(names.down, [hiddenSize, intermediateSize]);
  }
  return shapes;
}
