import type { Architecture } from "./architectures.ts";
import type { ModelConfig } from "./config.ts";
import { lengthOf, type Range, type RankShare } from "./tensor-parallel.ts";
import type { ModelLayout } from "./weight-layout.ts";

/** The rows and columns of a stored matrix that a rank keeps. */
export interface MatrixPart {
  readonly name: string;
  readonly rows: Range;
  readonly columns: Range;
}

/** The elements of a stored vector that a rank keeps. */
export interface VectorPart {
  readonly name: string;
  readonly rows: Range;
}

/** What a rank keeps of a checkpoint: its share of every tensor. */
export function weightParts(
  architecture: Architecture,
  config: ModelConfig,
  share: RankShare,
): ModelLayout<MatrixPart, VectorPart> {
  const { headDim } = config;
  const heads = (range: Range): Range => ({ start: range.start * headDim, end: range.end * headDim });
  const hidden = { start: 0, end: config.hiddenSize };
  const { outputs } = share;
  const queryRows = heads(share.queryHeads);
  const kvRows = heads(share.kvHeads);
  const hasBias = config.attentionBias !== "none";
  const vectorIf = (has: boolean, name: string, rows: Range): VectorPart | undefined =>
    has ? { name, rows } : undefined;
  const layer = (index: number) => {
    const names = architecture.layer(index);
    const normsHeads = config.queryKeyNorm;
    return {
      attentionNorm: { name: names.attentionNorm, rows: hidden },
      query: { name: names.query, rows: queryRows, columns: hidden },
      key: { name: names.key, rows: kvRows, columns: hidden },
      value: { name: names.value, rows: kvRows, columns: hidden },
      attentionOutput: { name: names.attentionOutput, rows: outputs.hidden, columns: heads(outputs.queryHeads) },
      queryBias: vectorIf(hasBias, names.queryBias, queryRows),
      keyBias: vectorIf(hasBias, names.keyBias, kvRows),
      valueBias: vectorIf(hasBias, names.valueBias, kvRows),
      attentionOutputBias: vectorIf(config.attentionBias === "qkvo", names.attentionOutputBias, hidden),
      queryNorm: vectorIf(normsHeads, names.queryNorm, { start: 0, end: headDim }),
      keyNorm: vectorIf(normsHeads, names.keyNorm, { start: 0, end: headDim }),
      mlpNorm: { name: names.mlpNorm, rows: hidden },
      gate: { name: names.gate, rows: share.intermediate, columns: hidden },
      up: { name: names.up, rows: share.intermediate, columns: hidden },
      down: { name: names.down, rows: outputs.hidden, columns: outputs.intermediate },
    };
  };
  return {
    embedding: { name: architecture.embedding, rows: share.vocabulary, columns: hidden },
    layers: Array.from({ length: config.layers }, (_, index) => layer(index)),
    finalNorm: { name: architecture.finalNorm, rows: hidden },
    output: config.tiedEmbeddings ? undefined : { name: architecture.output, rows: share.vocabulary, columns: hidden },
  };
}

/** Most inputs of a rank's linear layers. */
export function widestInput({ hiddenSize, headDim }: ModelConfig, { outputs }: RankShare): number {
  return Math.max(hiddenSize, lengthOf(outputs.queryHeads) * headDim, lengthOf(outputs.intermediate));
}
