// Everything the wasm backend compiles to: one module over the shared heap's memory, instantiated once per thread.
// No static data, so that instances cannot disturb one another.

export {
  attentionBounds_bf16,
  attentionBounds_f8e4m3,
  attentionBounds_f16,
  attentionBounds_f32,
  attentionBounds_i8,
} from "../ops/attention-bounds/attention-bounds.as";
export {
  correctAttnOut_bf16, correctAttnOut_f16, correctAttnOut_f32,
} from "../ops/correct-attn-out/correct-attn-out.as";
export { scaleHalves_bf16, scaleHalves_f16 } from "../ops/correct-attn-out/scale-halves.as";
export { finishLattice_bf16, finishLattice_f16, finishLattice_f32 } from "../ops/finish-lattice/finish-lattice.as";
export { gatherKvCache } from "../ops/gather-kv-cache/gather-kv-cache.as";
export {
  latticeSums_bf16,
  latticeSums_f8e4m3,
  latticeSums_f16,
  latticeSums_f32,
  latticeSums_i8,
} from "../ops/lattice-sums/lattice-sums.as";
export {
  mergeAttnStates_bf16_bf16,
  mergeAttnStates_bf16_f16,
  mergeAttnStates_bf16_f32,
  mergeAttnStates_f16_bf16,
  mergeAttnStates_f16_f16,
  mergeAttnStates_f16_f32,
  mergeAttnStates_f32_bf16,
  mergeAttnStates_f32_f16,
  mergeAttnStates_f32_f32,
} from "../ops/merge-attn-states/merge-attn-states.as";
export {
  mergeHalves_bf16, mergeHalves_f16, mergeTwoHalves_bf16, mergeTwoHalves_f16,
} from "../ops/merge-attn-states/merge-halves.as";
export {
  partialAttention_bf16,
  partialAttention_f8e4m3,
  partialAttention_f16,
  partialAttention_f32,
  partialAttention_i8,
} from "../ops/partial-attention/partial-attention.as";
export {
  writeKvCache_bf16_bf16,
  writeKvCache_bf16_f16,
  writeKvCache_bf16_f32,
  writeKvCache_bf16_f8e4m3,
  writeKvCache_bf16_i8,
  writeKvCache_f16_bf16,
  writeKvCache_f16_f16,
  writeKvCache_f16_f32,
  writeKvCache_f16_f8e4m3,
  writeKvCache_f16_i8,
  writeKvCache_f32_bf16,
  writeKvCache_f32_f16,
  writeKvCache_f32_f32,
  writeKvCache_f32_f8e4m3,
  writeKvCache_f32_i8,
  writeKvCache_f8e4m3_f8e4m3,
  writeKvCache_i8_i8,
} from "../ops/write-kv-cache/write-kv-cache.as";
export { initialise } from "./constants.as";
export { copyStrided, fillStrided } from "./strided-copy.as";
