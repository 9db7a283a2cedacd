import type { FloatDType } from "../../webgpu/wgsl-operands.ts";
import type { MatrixSizes } from "./subgroup-matrix.ts";

/** What a matrix kernel is made for. */
export interface MatrixAttentionProblem {
  readonly keyDim: number;
  readonly valueDim: number;
  /** Query heads per KV head. */
  readonly heads: number;
  /** Values are the keys' first columns, in the same memory. */
  readonly sharedValues: boolean;
  readonly queryDType: FloatDType;
  readonly queryUnit: 1 | 4;
  readonly blockSize: number;
  readonly softcap: boolean;
  readonly sinks: boolean;
}

/** How a workgroup shares the work; the names are those of matrix-attention.wgsl. */
export interface MatrixAttentionShape {
  readonly subgroups: number;
  /** Shares of a key's columns. */
  readonly kGroups: number;
  readonly rowTiles: number;
  /** Rows of a tile: 8 or 16. */
  readonly tileRows: number;
  /** Keys of a tile. */
  readonly keys: number;
  /** Tiles of keys in workgroup memory; with one, values take turns with keys. */
  readonly buffers: number;
  /** Tiles on their way in registers. */
  readonly tilesAhead: number;
}

/** What a device lets a workgroup have. */
export interface WorkgroupLimits {
  readonly storageBytes: number;
  readonly threads: number;
}

type Choice = readonly [
  subgroups: number,
  kGroups: number,
  rowTiles: number,
  keys: number,
  buffers: number,
  tilesAhead: number,
];

/**
 * Measured on an H200 and an H100, best first. What counts is workgroup memory: a multiprocessor gives all its
 * workgroups together 57 KB of it through Vulkan, so that small tiles mean many workgroups, which wait for memory and
 * barriers in turn.
 */
const CHOICES: Readonly<Record<"few heads" | "many heads" | "latent" | "latent, many heads", readonly Choice[]>> = {
  "few heads": [
    [8, 2, 1, 64, 1, 1],
    [4, 2, 1, 32, 1, 1],
    [2, 2, 1, 16, 1, 1],
    [1, 1, 1, 16, 1, 1],
  ],
  "many heads": [
    [4, 2, 1, 32, 1, 1],
    [2, 2, 1, 16, 1, 1],
    [1, 1, 1, 16, 1, 1],
  ],
  latent: [
    [8, 4, 1, 32, 1, 3],
    [8, 4, 1, 32, 1, 2],
    [4, 4, 1, 16, 1, 1],
    [2, 2, 1, 16, 1, 1],
    [1, 1, 1, 16, 1, 1],
  ],
  "latent, many heads": [
    [8, 2, 4, 16, 1, 1],
    [8, 4, 2, 16, 2, 2],
    [4, 4, 1, 16, 1, 1],
    [2, 2, 1, 16, 1, 1],
    [1, 1, 1, 16, 1, 1],
  ],
};

/** 32-bit registers of a thread for its share of queries and sums, and one and a half for each that is loaded ahead. */
const MOST_REGISTERS = 232;
/** Below so many heads most of a matrix is padding, and vector arithmetic keeps up with memory. */
const FEWEST_HEADS = 4;
/** Multiply-adds from which on the kernel pays off unless values are shared: it takes longer to begin. */
const FEWEST_PRODUCTS = 2 ** 27;

/**
 * The shape for a problem; undefined where the kernel does not fit or does not pay. `keysInAll` counts the places of
 * all query tokens' block tables, for each KV head.
 */
export function matrixAttentionShape(
  problem: MatrixAttentionProblem,
  keysInAll: number,
  limits: WorkgroupLimits,
): MatrixAttentionShape | undefined {
  const { keyDim, valueDim, heads, sharedValues } = problem;
  if (keyDim % 16 !== 0 || valueDim % 16 !== 0 || keyDim === 0 || valueDim === 0) return undefined;
  const products = heads * keysInAll * (keyDim + valueDim);
  if (heads < FEWEST_HEADS || (!sharedValues && products < FEWEST_PRODUCTS)) return undefined;
  const tileRows = heads <= 8 ? 8 : 16;
  const kind = sharedValues
    ? heads > 16
      ? "latent, many heads"
      : "latent"
    : tileRows === 8
      ? "few heads"
      : "many heads";
  for (const [subgroups, kGroups, rowTiles, keys, buffers, tilesAhead] of CHOICES[kind]) {
    const shape = { subgroups, kGroups, rowTiles, tileRows, keys, buffers, tilesAhead };
    if (fits(problem, shape, limits)) return shape;
  }
  return undefined;
}

function fits(problem: MatrixAttentionProblem, shape: MatrixAttentionShape, limits: WorkgroupLimits): boolean {
  const { keySplit, own, steps, columnTiles, queryParts } = shares(problem, shape);
  const { tileRows, rowTiles, subgroups, keys, tilesAhead } = shape;
  const { passes, keyLoads, valueLoads } = moves(problem, shape);
  if (![keySplit, own / 2, keys / 16 / keySplit, steps, columnTiles, passes].every(Number.isInteger)) return false;
  // A row tile that no head falls into would only cost.
  if ((rowTiles - 1) * tileRows >= problem.heads) return false;
  // Few heads gain less by large tiles than they lose where these lie in several blocks.
  if (tileRows === 8 && problem.blockSize % keys !== 0 && problem.blockSize % 16 === 0) return false;
  const held = (queryParts * steps * tileRows) / 4 + (columnTiles * rowTiles * tileRows) / 2;
  const registers = held + 1.5 * 2 * tilesAhead * (keyLoads + valueLoads);
  if (registers > MOST_REGISTERS || 32 * subgroups > limits.threads) return false;
  return matrixWorkgroupBytes(problem, shape) <= limits.storageBytes;
}

/** Bytes of workgroup memory. */
export function matrixWorkgroupBytes(problem: MatrixAttentionProblem, shape: MatrixAttentionShape): number {
  const { keyWords, valueWords, weightWords, scratchFloats } = matrixLayout(problem, shape).sizes;
  const rowStates = 2 * 4 * shape.rowTiles * shape.tileRows;
  return 8 * (keyWords + valueWords) + 4 * (weightWords + scratchFloats) + rowStates + 16;
}

/**
 * Multiprocessors of an H200, and the workgroup memory that the workgroups of one can have, with 1 KB each for itself.
 */
const MULTIPROCESSORS = 132;
const MULTIPROCESSOR_BYTES = 57.5 * 1024;

/** Workgroups that fill the chip once: part of another wave would take as long as a whole one. */
export function matrixWorkgroupsWanted(problem: MatrixAttentionProblem, shape: MatrixAttentionShape): number {
  const bytes = matrixWorkgroupBytes(problem, shape) + 1024;
  return MULTIPROCESSORS * Math.max(1, Math.floor(MULTIPROCESSOR_BYTES / bytes));
}

function shares(
  { keyDim, valueDim, queryDType }: MatrixAttentionProblem,
  { subgroups, kGroups, rowTiles, tileRows, keys }: MatrixAttentionShape,
): Record<"keySplit" | "lanesPerRow" | "own" | "steps" | "columnTiles" | "queryParts", number> {
  const lanesPerRow = (32 * subgroups) / (rowTiles * tileRows);
  return {
    keySplit: subgroups / (rowTiles * kGroups),
    lanesPerRow,
    own: keys / lanesPerRow,
    steps: keyDim / 16 / kGroups,
    columnTiles: valueDim / 16 / subgroups,
    queryParts: queryDType === "f32" ? 2 : 1,
  };
}

/** How threads share the moving of a tile's rows, in words of 8 bytes: 32 or 16 consecutive threads take a row. */
function moves(
  { keyDim, valueDim, sharedValues }: MatrixAttentionProblem,
  { subgroups, keys }: MatrixAttentionShape,
): Record<"rowThreads" | "rowsMoved" | "passes" | "keySteps" | "valueSteps" | "keyLoads" | "valueLoads", number> {
  const isWide = keyDim % 128 === 0 && (sharedValues || valueDim % 128 === 0);
  const rowThreads = isWide ? 32 : 16;
  const rowsMoved = (32 * subgroups) / rowThreads;
  const passes = keys / rowsMoved;
  const steps = (dim: number): number => Math.ceil(dim / 4 / rowThreads);
  const [keySteps, valueSteps] = [steps(keyDim), sharedValues ? 0 : steps(valueDim)];
  return {
    rowThreads,
    rowsMoved,
    passes,
    keySteps,
    valueSteps,
    keyLoads: passes * keySteps,
    valueLoads: passes * valueSteps,
  };
}

/** Elements between rows of `elements` 16-bit elements: one 16-byte word more, so that rows begin in other banks. */
const pitch = (elements: number): number => elements + 8;

/** The constants of matrix-attention.wgsl and the sizes of its workgroup memory. */
export function matrixLayout(
  problem: MatrixAttentionProblem,
  shape: MatrixAttentionShape,
): { constants: Record<string, number | boolean>; sizes: MatrixSizes } {
  const { keyDim, valueDim, blockSize, sharedValues } = problem;
  const { subgroups, kGroups, rowTiles, tileRows, keys, buffers, tilesAhead } = shape;
  const { keySplit, lanesPerRow, own, steps, columnTiles, queryParts } = shares(problem, shape);
  const threads = 32 * subgroups;
  const rows = rowTiles * tileRows;
  const { rowThreads, rowsMoved, passes, keySteps, valueSteps, keyLoads, valueLoads } = moves(problem, shape);
  const queryChunks = Math.ceil(keyDim / 8 / lanesPerRow);
  // With many rows and two tiles there is no room for padding.
  const padding = rows >= 32 && buffers > 1 ? 0 : 4;
  const [scorePitch, sumPitch] = [keys + padding, 16 + padding];
  const keyPitch = pitch(keyDim);
  const valuePitch = sharedValues ? keyPitch : pitch(valueDim);
  const weightPitch = pitch(keys);
  return {
    constants: {
      THREADS: threads,
      SUBGROUPS: subgroups,
      KEYS: keys,
      KEY_TILES: keys / 16,
      KEY_SPLIT: keySplit,
      OWN_KEY_TILES: keys / 16 / keySplit,
      ROWS: rows,
      ROW_TILES: rowTiles,
      TILE_ROWS: tileRows,
      K_GROUPS: kGroups,
      STEPS: steps,
      COLUMN_TILES: columnTiles,
      ACCUMULATORS: columnTiles * rowTiles,
      KEY_DIM: keyDim,
      VALUE_DIM: valueDim,
      KEY_CHUNKS: keyDim / 8,
      KEY_LOADS: keyLoads,
      VALUE_LOADS: valueLoads,
      ROW_THREADS: rowThreads,
      ROWS_MOVED: rowsMoved,
      PASSES: passes,
      KEY_STEPS: keySteps,
      VALUE_STEPS: valueSteps,
      KEY_WORDS: keyDim / 4,
      VALUE_WORDS: valueDim / 4,
      TILES_AHEAD: tilesAhead,
      KEY_REGISTERS: tilesAhead * keyLoads,
      VALUE_REGISTERS: Math.max(1, tilesAhead * valueLoads),
      KEY_PITCH: keyPitch,
      VALUE_PITCH: valuePitch,
      WEIGHT_PITCH: weightPitch,
      SCORE_PITCH: scorePitch,
      SUM_PITCH: sumPitch,
      BUFFERS: buffers,
      QUERY_PARTS: queryParts,
      QUERY_CHUNKS: queryChunks,
      QUERY_VECTORS: 2 * queryChunks,
      QUERY_FRAGMENTS: queryParts * steps,
      LANES_PER_ROW: lanesPerRow,
      OWN: own,
      OWN_PAIRS: own / 2,
      BLOCK_SIZE: blockSize,
      ONE_BLOCK: blockSize % keys === 0,
    },
    sizes: {
      tileRows,
      lanesPerRow,
      keyWords: Math.max(Math.max(buffers * keys, tileRows) * keyPitch, sharedValues ? 0 : keys * valuePitch) / 4,
      valueWords: sharedValues || buffers === 1 ? 0 : (keys * valuePitch) / 4,
      weightWords: (rows * weightPitch) / 2,
      scratchFloats: Math.max(kGroups * rows * scorePitch, subgroups * tileRows * sumPitch),
    },
  };
}
