import { formatShape, type SafetensorsFile } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import type { StoredDType } from "../layers/weight.ts";
import { type Architecture, findArchitecture } from "./architectures.ts";
import type { ModelConfig } from "./config.ts";
import { describeJson, isJsonObject } from "./json-file.ts";
import type { ModelFolder } from "./model-files.ts";
import { type StoredDTypes, storedDTypes } from "./stored-dtypes.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** The weights of a model folder: `model.safetensors`, or the files that `model.safetensors.index.json` lists. */
export class Checkpoint implements Disposable {
  readonly architecture: Architecture;
  readonly #config: ModelConfig;
  readonly #folder: ModelFolder;
  /** Open files by their names. */
  readonly #files: ReadonlyMap<string, SafetensorsFile>;
  /** The file of each tensor as the index has it; undefined where there is but one file. */
  readonly #index: ReadonlyMap<string, string> | undefined;

  private constructor(
    architecture: Architecture,
    config: ModelConfig,
    folder: ModelFolder,
    files: ReadonlyMap<string, SafetensorsFile>,
    index: ReadonlyMap<string, string> | undefined,
  ) {
    this.architecture = architecture;
    this.#config = config;
    this.#folder = folder;
    this.#files = files;
    this.#index = index;
  }

  /**
   * Opens every file of a checkpoint and checks that each tensor the model needs is there, whole, with the shape its
   * config asks for. Throws {@link ModelError} or SafetensorsError; reads headers only.
   */
  static open(folder: ModelFolder, config: ModelConfig): Checkpoint {
    const architecture = findArchitecture(config.architecture);
    if (architecture === undefined) throw new ModelError(folder.name, "a known architecture", config.architecture);
    const files = new Map<string, SafetensorsFile>();
    const index = readIndex(folder);
    const checkpoint = new Checkpoint(architecture, config, folder, files, index);
    try {
      for (const name of new Set(index?.values() ?? [SINGLE])) {
        files.set(name, folder.safetensors(name));
      }
      for (const [name, shape] of expectedShapes(architecture, config)) checkpoint.#check(name, shape);
      if (config.tiedEmbeddings && checkpoint.hasOutput) {
        checkpoint.#check(architecture.output, [config.vocabularySize, config.hiddenSize]);
      }
      return checkpoint;
    } catch (error) {
      checkpoint.close();
      throw error;
    }
  }

  /** The file that holds a tensor: the one that the index names, where there is an index. */
  fileOf(name: string): SafetensorsFile {
    const named = this.#index === undefined ? SINGLE : this.#index.get(name);
    const file = named === undefined ? undefined : this.#files.get(named);
    if (file?.has(name)) return file;
    const where = file === undefined ? this.#folder.path(INDEX) : file.path;
    throw new ModelError(where, `a tensor ${name}`, "none");
  }

  /** Whether an output projection is stored, tied embeddings or not. */
  get hasOutput(): boolean {
    const { output } = this.architecture;
    return this.#index === undefined ? this.#files.get(SINGLE)?.has(output) === true : this.#index.has(output);
  }

  /** Dtypes of the tensors that the model needs, and of an output projection that is stored beside tied embeddings. */
  get storedDTypes(): StoredDTypes {
    const names = [...expectedShapes(this.architecture, this.#config)].map(([name]) => name);
    if (this.#config.tiedEmbeddings && this.hasOutput) names.push(this.architecture.output);
    return storedDTypes(names.map((name) => [name, this.#dtypeOf(name)] as const));
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
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
    this.#dtypeOf(name);
  }

  #dtypeOf(name: string): StoredDType {
    const file = this.fileOf(name);
    const { dtype } = file.info(name);
    if (dtype === "f32" || dtype === "f16" || dtype === "bf16") return dtype;
    throw new ModelError(file.path, `${name} in f32, f16 or bf16`, dtype);
  }
}

/** Names of the files that hold a model's weights, in the order of the alphabet. @throws ModelError */
export function weightFiles(folder: ModelFolder): string[] {
  return [...new Set(readIndex(folder)?.values() ?? [SINGLE])].sort();
}

/** The file of each tensor, as the index says; undefined where there is one file, or none. */
function readIndex(folder: ModelFolder): ReadonlyMap<string, string> | undefined {
  const path = folder.path(INDEX);
  if (folder.has(SINGLE) || !folder.has(INDEX)) return undefined;
  const map = folder.json(INDEX).weight_map;
  if (!isJsonObject(map)) throw new ModelError(path, "an object weight_map", describeJson(map));
  const index = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string" || !/^[^/\\\0]+$/.test(file) || file === ".." || file === ".") {
      const expected = `weight_map of ${JSON.stringify(name.slice(0, 80))} to name a file of the folder`;
      throw new ModelError(path, expected, describeJson(file));
    }
    index.set(name, file);
  }
  return index;
}

/** Name and shape of every tensor a model of this config has, one by one: the first that is missing ends a check. */
export function* expectedShapes(
  architecture: Architecture,
  config: ModelConfig,
): Generator<readonly [string, readonly number[]], void> {
  const { hiddenSize, intermediateSize, headDim } = config;
  const queryRows = config.queryHeads * headDim;
  const kvRows = config.kvHeads * headDim;
  yield [architecture.embedding, [config.vocabularySize, hiddenSize]];
  yield [architecture.finalNorm, [hiddenSize]];
  if (!config.tiedEmbeddings) yield [architecture.output, [config.vocabularySize, hiddenSize]];
  for (let index = 0; index < config.layers; index++) {
    const names = architecture.layer(index);
    yield [names.attentionNorm, [hiddenSize]];
    yield [names.query, [queryRows, hiddenSize]];
    yield [names.key, [kvRows, hiddenSize]];
    yield [names.value, [kvRows, hiddenSize]];
    yield [names.attentionOutput, [hiddenSize, queryRows]];
    if (config.attentionBias !== "none") {
      yield [names.queryBias, [queryRows]];
      yield [names.keyBias, [kvRows]];
      yield [names.valueBias, [kvRows]];
    }
    if (config.attentionBias === "qkvo") yield [names.attentionOutputBias, [hiddenSize]];
    if (config.queryKeyNorm) {
      yield [names.queryNorm, [headDim]];
      yield [names.keyNorm, [headDim]];
    }
    yield [names.mlpNorm, [hiddenSize]];
    yield [names.gate, [intermediateSize, hiddenSize]];
    yield [names.up, [intermediateSize, hiddenSize]];
    yield [names.down, [hiddenSize, intermediateSize]];
  }
}
