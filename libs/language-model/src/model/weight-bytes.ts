import { DTYPE_BYTES } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { matrixBytes, type StoredDType, type WeightKind } from "../layers/weight.ts";
import { findArchitecture } from "./architectures.ts";
import type { ModelConfig } from "./config.ts";
import { type StoredDTypes, storedDTypeOf } from "./stored-dtypes.ts";
import { lengthOf, type RankShare } from "./tensor-parallel.ts";
import { mapLayout } from "./weight-layout.ts";
import { type MatrixPart, type VectorPart, weightParts } from "./weight-parts.ts";

/** Most bytes of stored weights that lie beside those that are kept while they are quantised, unless a row has more. */
const QUANTISED_AT_ONCE = 1 << 20;

/** Bytes of a part as it is kept. Vectors are kept in f32. */
export function partBytes(part: MatrixPart | VectorPart, dtype: StoredDType, kind: WeightKind): number {
  const rows = lengthOf(part.rows);
  return "columns" in part ? matrixBytes(kind, dtype, rows, lengthOf(part.columns)) : 4 * rows;
}

/** Bytes of a part that lie beside those that are kept while it is loaded. */
function partScratch(part: MatrixPart | VectorPart, dtype: StoredDType, kind: WeightKind): number {
  const rows = lengthOf(part.rows);
  if (!("columns" in part)) return dtype === "f32" ? 0 : rows * DTYPE_BYTES[dtype];
  const row = lengthOf(part.columns) * DTYPE_BYTES[dtype];
  return kind === "stored" ? 0 : Math.min(rows * row, Math.max(row, QUANTISED_AT_ONCE));
}

/**
 * Bytes of the weights that a rank keeps, as `loadWeights` keeps them; a heap rounds each tensor up to 128.
 * @param stored dtypes of the checkpoint's tensors
 */
export function weightBytes(stored: StoredDTypes, config: ModelConfig, share: RankShare, kind: WeightKind): number {
  return parts(config, share).reduce((sum, part) => sum + partBytes(part, storedDTypeOf(stored, part.name), kind), 0);
}

/** Bytes that `loadWeights` takes besides what it keeps, and gives back. */
export function loadingScratchBytes(
  stored: StoredDTypes,
  config: ModelConfig,
  share: RankShare,
  kind: WeightKind,
): number {
  return parts(config, share).reduce(
    (most, part) => Math.max(most, partScratch(part, storedDTypeOf(stored, part.name), kind)),
    0,
  );
}

function parts(config: ModelConfig, share: RankShare): readonly (MatrixPart | VectorPart)[] {
  const architecture = findArchitecture(config.architecture);
  if (architecture === undefined) throw new ModelError("config.json", "a known architecture", config.architecture);
  const all: (MatrixPart | VectorPart)[] = [];
  const take = (part: MatrixPart | VectorPart): number => all.push(part);
  mapLayout(weightParts(architecture, config, share), take, take);
  return all;
}
