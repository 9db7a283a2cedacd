// The defaults of DcpAttention's options: the only place that knows them.
import type { DcpAttentionOptions } from "./dcp-attention-options.ts";

/** Options that have a default. */
type WithDefault =
  | "mergeBackend"
  | "queryGroup"
  | "valueDim"
  | "mla"
  | "headGroup"
  | "queryDtype"
  | "gatherDtype"
  | "queryScale"
  | "partialDtype"
  | "queryReplicated"
  | "interleave"
  | "prefixCache"
  | "combine"
  | "deterministic"
  | "overlap"
  | "scale"
  | "lseBase"
  | "maxStepQueries";

/** Options with every default in its place. */
export type FilledOptions = DcpAttentionOptions & Required<Pick<DcpAttentionOptions, WithDefault>>;

/** The same options with the default of each that was left out. They need not be sound yet. */
export function withDefaults(options: DcpAttentionOptions): FilledOptions {
  const { backend, dcpGroup, queryHeads, kvHeads, headDim, queryDtype = "f32" } = options;
  const {
    mergeBackend = backend,
    queryGroup = dcpGroup,
    valueDim = headDim,
    mla = false,
    headGroup = { size: queryHeads / kvHeads, offset: 0 },
    gatherDtype = queryDtype,
    queryScale = 1,
    partialDtype = "f32",
    queryReplicated = false,
    interleave = 1,
    prefixCache = false,
    combine = "auto",
    deterministic = "rank-order",
    overlap = "auto",
    scale = 1 / Math.sqrt(headDim),
    lseBase = "e",
    maxStepQueries = 256,
  } = options;
  return {
    ...options,
    mergeBackend,
    queryGroup,
    valueDim,
    mla,
    headGroup,
    queryDtype,
    gatherDtype,
    queryScale,
    partialDtype,
    queryReplicated,
    interleave,
    prefixCache,
    combine,
    deterministic,
    overlap,
    scale,
    lseBase,
    maxStepQueries,
  };
}
