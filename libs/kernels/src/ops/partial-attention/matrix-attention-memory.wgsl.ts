export const MATRIX_ATTENTION_MEMORY_WGSL = /* wgsl */ `
// Where rows of keys and values lie for matrix-attention.wgsl, and what it leaves of a row's softmax. The constants are
// described there.

@group(0) @binding(5) var<storage, read> key_data: array<vec2u>;
@group(0) @binding(6) var<storage, read> value_data: array<vec2u>; // if not SHARED

const SLACK = 7.0;
const LIMIT = 15.0;

// Block and slot of row 'row' of a tile. In a block that holds the whole tile rows that the split does not have may be
// loaded: they are memory of the cache, and are masked like the rest of an edge tile.
fn block_and_slot(tile: u32, tile_block: u32, row: u32, table_row: u32, low: u32, last: u32) -> vec2u {
  if (ONE_BLOCK) { return vec2u(tile_block, tile % BLOCK_SIZE + row); }
  let key = clamp(tile + row, low, last);
  return vec2u(plan[table_row + key / BLOCK_SIZE], key % BLOCK_SIZE);
}

// True when a row of 'words' words has this thread's word 'step'.
fn is_within(step: u32, lane: u32, words: u32) -> bool {
  return (step + 1u) * ROW_THREADS <= words || step * ROW_THREADS + lane < words;
}

// The distance of that word from the thread's first one; of the row's last word if the row does not have it.
fn step_within(step: u32, lane: u32, words: u32) -> u32 {
  return select(words - 1u - lane, step * ROW_THREADS, is_within(step, lane, words));
}

// Places in words of 8 bytes.
fn key_place(base: u32, found: vec2u) -> u32 {
  return 2u * (base + found.x * params.key_block_stride + found.y * params.key_slot_stride);
}

fn value_place(base: u32, found: vec2u) -> u32 {
  return 2u * (base + found.x * params.value_block_stride + found.y * params.value_slot_stride);
}

// The sink of row 'place' of [T, Hq]; none for padding, a token that ends at -1.
fn sink_of(place: u32) -> f32 {
  if (!SINKS || SPLIT) { return LOWEST; }
  if (plan[params.tokens_at + (place / params.query_heads) * 3u + 2u] == 0xffffffffu) { return LOWEST; }
  return bitcast<f32>(plan[params.sinks_at + place % params.query_heads]);
}

// A row's state with its sink.
fn with_sink(place: u32, state: vec2f) -> vec2f {
  let sink = sink_of(place);
  if (sink == LOWEST) { return state; }
  let reference = max(state.x, sink);
  return vec2f(reference, state.y * exp2(state.x - reference) + exp2(sink - reference));
}

fn store_state(place: u32, split: u32, reference: f32, sum: f32) {
  if (SPLIT) {
    lse[(place * params.splits + split) * 2u] = bitcast<u32>(reference);
    lse[(place * params.splits + split) * 2u + 1u] = bitcast<u32>(sum);
  } else {
    let natural = (reference + log2(max(sum, 1e-30))) * LN_2;
    let bits = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, sum == 0.0);
    lse[params.lse_first + place] = select(NAN_BITS, bits, is_finite_bits(bitcast<u32>(sum)));
  }
}
`;
