/**
 * What a layer has, whatever stands for a matrix (M) and for a vector (V). H hidden size; row counts of a share. The
 * two output projections have H rows and a share's columns or, in world-invariant shares, a share's rows and all columns.
 */
export interface LayerLayout<M, V> {
  /** [H] */
  readonly attentionNorm: V;
  /** [query heads * D, H] */
  readonly query: M;
  /** [KV heads * D, H] */
  readonly key: M;
  /** [KV heads * D, H] */
  readonly value: M;
  /** [H, query heads * D] */
  readonly attentionOutput: M;
  /** [query heads * D], [KV heads * D] twice, [H]; undefined where the model has none. */
  readonly queryBias: V | undefined;
  readonly keyBias: V | undefined;
  readonly valueBias: V | undefined;
  readonly attentionOutputBias: V | undefined;
  /** [D] each; undefined where the model has none. */
  readonly queryNorm: V | undefined;
  readonly keyNorm: V | undefined;
  /** [H] */
  readonly mlpNorm: V;
  /** [intermediate, H] */
  readonly gate: M;
  /** [intermediate, H] */
  readonly up: M;
  /** [H, intermediate] */
  readonly down: M;
}

/** What a model has. */
export interface ModelLayout<M, V> {
  /** [vocabulary rows, H] */
  readonly embedding: M;
  readonly layers: readonly LayerLayout<M, V>[];
  /** [H] */
  readonly finalNorm: V;
  /** [vocabulary rows, H]; undefined where it is the embedding. */
  readonly output: M | undefined;
}

/** The same layout of what `matrix` and `vector` make of each part, one after another. */
export function mapLayout<M, V, N, W>(
  model: ModelLayout<M, V>,
  matrix: (part: M) => N,
  vector: (part: V) => W,
): ModelLayout<N, W> {
  const vectorIf = (part: V | undefined): W | undefined => (part === undefined ? undefined : vector(part));
  return {
    embedding: matrix(model.embedding),
    layers: model.layers.map((layer) => ({
      attentionNorm: vector(layer.attentionNorm),
      query: matrix(layer.query),
      key: matrix(layer.key),
      value: matrix(layer.value),
      attentionOutput: matrix(layer.attentionOutput),
      queryBias: vectorIf(layer.queryBias),
      keyBias: vectorIf(layer.keyBias),
      valueBias: vectorIf(layer.valueBias),
      attentionOutputBias: vectorIf(layer.attentionOutputBias),
      queryNorm: vectorIf(layer.queryNorm),
      keyNorm: vectorIf(layer.keyNorm),
      mlpNorm: vector(layer.mlpNorm),
      gate: matrix(layer.gate),
      up: matrix(layer.up),
      down: matrix(layer.down),
    })),
    finalNorm: vector(model.finalNorm),
    output: model.output === undefined ? undefined : matrix(model.output),
  };
}
