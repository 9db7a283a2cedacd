export const ATTENTION_PARAMS_WGSL = /* wgsl */ `
// What attention kernels are given, and how a softcap bounds their scores.

struct Params {
  workgroups: u32,
  // Splits [first_split, first_split + splits) are attended to.
  first_split: u32,
  splits: u32,
  split_keys: u32,
  row_groups: u32,
  query_heads: u32,
  kv_heads: u32,
  group_size: u32,
  group_offset: u32,
  query_first: u32,
  key_first: u32,
  key_block_stride: u32,
  key_slot_stride: u32,
  key_head_stride: u32,
  value_first: u32,
  value_block_stride: u32,
  value_slot_stride: u32,
  value_head_stride: u32,
  table_width: u32,
  tokens_at: u32,
  table_at: u32,
  out_first: u32,
  lse_first: u32,
  scale: f32,
  softcap: f32,
  sinks_at: u32,
  scales_at: u32,
  // Where the scales of rows lie, if rows have them.
  key_scale_first: u32,
  key_scale_block_stride: u32,
  key_scale_slot_stride: u32,
  key_scale_head_stride: u32,
  value_scale_first: u32,
  value_scale_block_stride: u32,
  value_scale_slot_stride: u32,
  value_scale_head_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Items (first token, tokens, first key, end key), then tokens (place of the row of the block table in units of
// table_width, start, end), the block table, the sinks of the query heads (bits of f32, times log2(e), LOWEST for
// none), and the scales of the KV heads' keys, then values (bits of f32).
@group(0) @binding(1) var<storage, read> plan: array<u32>;

// The lowest f32.
const LOWEST = -0x1.fffffep+127f;
const LOG2_E = 1.4426950408889634;
const LN_2 = 0.6931471805599453;

// softcap * tanh(score / softcap). tanh itself may be wrong by 1e-5 in WGSL.
fn capped(score: f32) -> f32 {
  let x = score / params.softcap;
  let square = x * x;
  let near_zero = x * (945.0 + square * (105.0 + square)) / (945.0 + square * (420.0 + 15.0 * square));
  let size = min(abs(x), 20.0);
  let far = sign(x) * (1.0 - 2.0 / (exp2(2.0 * LOG2_E * size) + 1.0));
  return params.softcap * select(far, near_zero, abs(x) < 0.5);
}
`;

export const ATTENTION_RESULTS_WGSL = /* wgsl */ `
// Where kernels of partialAttention write.

// [T, Hq, Dv], or the splits' unnormalised sums [T, Hq, splits, Dv].
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
// Bits of the LSE [T, Hq], or of the splits' maximum (times log2(e)) and sum [T, Hq, splits, 2].
@group(0) @binding(3) var<storage, read_write> lse: array<u32>;
`;
