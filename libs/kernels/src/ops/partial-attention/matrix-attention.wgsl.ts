export const MATRIX_ATTENTION_WGSL = /* wgsl */ `
// Attention of a group of query heads over a split of one sequence's keys, on matrix units (split-KV flash decoding).
//
// Grid: (item, split, KV head, row group), row groups innermost, as in partial-attention.wgsl; an item has one query
// token, and its rows are the query heads of the KV head.
// Ownership: a workgroup takes ROWS rows and the local key indexes [split * split_keys, (split + 1) * split_keys), KEYS
// at a time: a tile of keys, and one of values unless these are the keys' first columns (SHARED), go through registers
// into workgroup memory, so that the next tile is on its way while this one is computed. Everything is transposed:
// scores [KEYS, ROWS] = keys x query^T, sums [VALUE_DIM, ROWS] = values^T x weights^T. Subgroup s computes the scores
// of row tile s % ROW_TILES, over the STEPS columns of its K group, of every KEY_SPLIT-th key tile; then the sums of
// COLUMN_TILES tiles of columns, which stay in its registers. LANES_PER_ROW threads share a row's softmax.
// Memory traffic: each visible key and value once per row group; queries, and out or the split's partial result, once.
// Numerical contract: products of f16 values, sums in f32. A query row is divided by a power of two and, unless it is
// 16-bit, split into two f16 parts; weights are exp2(score - reference), rounded to f16 and summed as rounded: a
// relative error of at most 2^-11 each. A row's reference follows its maximum, SLACK below it at first, and is raised
// once a score exceeds it by more than LIMIT, so that weights stay far from the largest f16 and small ones keep their
// digits. Places of a tile beyond the split's keys load its nearest key, with weight and values 0. An order of
// additions that depends on sizes alone. A visible score that is not finite (told by its bits) counts as LOWEST and
// makes the row's sum NaN.
//
// Before this text come matrix-attention-memory.wgsl and, as constants: THREADS, SUBGROUPS, KEYS, KEY_TILES (of 16),
// KEY_SPLIT, OWN_KEY_TILES, ROWS, ROW_TILES, TILE_ROWS, K_GROUPS, STEPS (of 16 columns), COLUMN_TILES, ACCUMULATORS
// (COLUMN_TILES * ROW_TILES), KEY_DIM, VALUE_DIM, KEY_CHUNKS (of 8 columns), KEY_WORDS and VALUE_WORDS (of 8 bytes, per
// row), ROW_THREADS (that move a row, a word each at a time), ROWS_MOVED (together), PASSES (per tile), KEY_STEPS and
// VALUE_STEPS (words of a row per thread; no VALUE_STEPS if SHARED), KEY_LOADS and VALUE_LOADS (per thread and tile),
// TILES_AHEAD (on their way), KEY_REGISTERS, VALUE_REGISTERS (at least one), KEY_PITCH, VALUE_PITCH, WEIGHT_PITCH
// (elements from row to row in workgroup memory), SCORE_PITCH, SUM_PITCH, BUFFERS (tiles of keys in workgroup memory),
// QUERY_PARTS, QUERY_CHUNKS and QUERY_VECTORS (of a query row, per thread), QUERY_FRAGMENTS (QUERY_PARTS * STEPS),
// LANES_PER_ROW, OWN and OWN_PAIRS (scores of a thread, and pairs of them), BLOCK_SIZE, ONE_BLOCK (a tile lies in one
// block), SHARED, SPLIT, SOFTCAP, SINKS (rows have sinks, which join where the splits end); as code: query_vector (see
// kv-operand.ts), and the matrix operations of subgroup-matrix.ts.

var<workgroup> row_factors: array<f32, ROWS>;
var<workgroup> row_sums: array<f32, ROWS>;
// The last tile whose scores raised a row's reference; padded, since matrices want memory aligned to 16 bytes.
var<workgroup> raised_tile: array<u32, 4>;

@compute @workgroup_size(THREADS)
fn matrix_attention(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let row_group = index % params.row_groups;
  let kv_head = (index / params.row_groups) % params.kv_heads;
  let split = (index / (params.row_groups * params.kv_heads)) % params.splits;
  let item = index / (params.splits * params.row_groups * params.kv_heads);

  // The query heads of the KV head, and this workgroup's rows of them.
  let group_low = kv_head * params.group_size;
  let group_high = group_low + params.group_size;
  let first_head = select(0u, group_low - params.group_offset, group_low > params.group_offset);
  let group_end = select(0u, group_high - params.group_offset, group_high > params.group_offset);
  let end_head = min(params.query_heads, group_end);
  let heads = select(0u, end_head - first_head, end_head > first_head);
  let first_row = row_group * ROWS;
  if (first_row >= heads) { return; }
  let token_at = params.tokens_at + item * 3u;
  let first_place = item * params.query_heads + first_head + first_row;
  let row_count = min(ROWS, heads - first_row);

  let low = max(plan[item * 4u + 2u], split * params.split_keys);
  var high = plan[item * 4u + 3u];
  if (SPLIT) { high = min(high, (split + 1u) * params.split_keys); }
  if (low >= high) {
    if (!SPLIT) {
      for (var at = thread; at < row_count * VALUE_DIM; at += THREADS) {
        out[params.out_first + first_place * VALUE_DIM + at] = 0.0;
      }
      if (thread < row_count) {
        let state = with_sink(first_place + thread, vec2f(LOWEST, 0.0));
        store_state(first_place + thread, split, state.x, state.y);
      }
    }
    return;
  }
  let table_row = params.table_at + plan[token_at] * params.table_width;
  let subgroup = thread / 32u;
  let row_tile = subgroup % ROW_TILES;
  let k_group = (subgroup / ROW_TILES) % K_GROUPS;
  let first_key_tile = subgroup / (ROW_TILES * K_GROUPS);

  // The tiles of keys and values that are on their way: this thread's words of rows moved_row, moved_row + ROWS_MOVED,
  // ... in words of 8 bytes, which consecutive threads store to workgroup memory without bank conflicts. Loads stand in
  // branches, or NVIDIA's compiler would move them down to where their results are used.
  let moved_row = thread / ROW_THREADS;
  let moved_lane = thread % ROW_THREADS;
  let key_base = params.key_first + kv_head * params.key_head_stride;
  let value_base = params.value_first + kv_head * params.value_head_stride;
  let first_tile = (low / KEYS) * KEYS;
  let last_tile = ((high - 1u) / KEYS) * KEYS;
  var keys: array<vec2u, KEY_REGISTERS>;
  var values: array<vec2u, VALUE_REGISTERS>;
  for (var ahead = 0u; ahead < TILES_AHEAD; ahead++) { // unroll
    let tile = first_tile + ahead * KEYS;
    if (tile <= last_tile && params.query_heads != 0u) {
      let block = plan[table_row + tile / BLOCK_SIZE];
      for (var pass = 0u; pass < PASSES; pass++) { // unroll
        let found = block_and_slot(tile, block, pass * ROWS_MOVED + moved_row, table_row, low, high - 1u);
        let key_at = key_place(key_base, found) + moved_lane;
        for (var i = 0u; i < KEY_STEPS; i++) { // unroll
          keys[ahead * KEY_LOADS + pass * KEY_STEPS + i] = key_data[key_at + step_within(i, moved_lane, KEY_WORDS)];
        }
        let value_at = value_place(value_base, found) + moved_lane;
        for (var i = 0u; i < VALUE_STEPS; i++) { // unroll
          let step = step_within(i, moved_lane, VALUE_WORDS);
          values[ahead * VALUE_LOADS + pass * VALUE_STEPS + i] = value_data[value_at + step];
        }
      }
    }
  }
  var next_block = plan[table_row + min(first_tile + TILES_AHEAD * KEYS, last_tile) / BLOCK_SIZE];

  // Query rows through the tiles' memory into registers.
  let own_row = thread / LANES_PER_ROW;
  let row_lane = thread % LANES_PER_ROW;
  let query_at = params.query_first + (first_place + min(own_row, row_count - 1u)) * KEY_DIM;
  var row_values: array<vec4f, QUERY_VECTORS>;
  var largest = 0.0;
  for (var i = 0u; i < QUERY_VECTORS; i++) { // unroll
    row_values[i] = query_vector(query_at, (row_lane + LANES_PER_ROW * (i / 2u)) * 8u + 4u * (i % 2u));
  }
  for (var i = 0u; i < QUERY_VECTORS; i++) { // unroll
    let size = abs(row_values[i]);
    largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
  }
  largest = row_maximum(largest, thread);
  let exponent = clamp(bitcast<u32>(largest) & 0x7f800000u, 0x08000000u, 0x77000000u);
  let inverse = bitcast<f32>(0x7f000000u - exponent);
  var score_scale = params.scale * bitcast<f32>(exponent);
  if (!SOFTCAP) { score_scale *= LOG2_E; }
  var query: array<Right, QUERY_FRAGMENTS>;
  for (var part = 0u; part < QUERY_PARTS; part++) { // unroll
    for (var r = 0u; r < ROW_TILES; r++) { // unroll
      for (var i = 0u; i < QUERY_CHUNKS; i++) { // unroll
        var first = inverse * row_values[2u * i];
        var second = inverse * row_values[2u * i + 1u];
        if (part == 1u) {
          first -= rounded4(first);
          second -= rounded4(second);
        }
        let chunk = row_lane + LANES_PER_ROW * i;
        if (own_row / TILE_ROWS == r && chunk < KEY_CHUNKS) {
          let word = (own_row % TILE_ROWS) * (KEY_PITCH / 4u) + 2u * chunk;
          store_key_word(word, packed(rounded4(first)));
          store_key_word(word + 1u, packed(rounded4(second)));
        }
      }
      workgroupBarrier();
      for (var step = 0u; step < STEPS; step++) { // unroll
        if (row_tile == r) {
          query[part * STEPS + step] = query_fragment((k_group * STEPS + step) * 16u, thread);
        }
      }
      workgroupBarrier();
    }
  }

  var sums: array<Result, ACCUMULATORS>;
  var reference = LOWEST;
  var own_sum = 0.0;
  if (thread == 0u) { raised_tile[0] = 0xffffffffu; }

  for (var several_tiles = first_tile; several_tiles <= last_tile; several_tiles += TILES_AHEAD * KEYS) {
  for (var ahead = 0u; ahead < TILES_AHEAD; ahead++) { // unroll
    let tile = several_tiles + ahead * KEYS;
    if (tile > last_tile) { break; }
    let is_edge = tile < low || tile + KEYS > high;
    let next_tile = tile + TILES_AHEAD * KEYS;
    let has_next = next_tile <= last_tile;
    let buffer = ((tile / KEYS) % BUFFERS) * KEYS;
    for (var pass = 0u; pass < PASSES; pass++) { // unroll
      let word = (buffer + pass * ROWS_MOVED + moved_row) * (KEY_PITCH / 4u) + moved_lane;
      for (var i = 0u; i < KEY_STEPS; i++) { // unroll
        if (is_within(i, moved_lane, KEY_WORDS)) {
          store_key_word(word + i * ROW_THREADS, keys[ahead * KEY_LOADS + pass * KEY_STEPS + i]);
        }
      }
    }
    if (SHARED && is_edge) {
      for (var pass = 0u; pass < PASSES; pass++) { // unroll
        let row = pass * ROWS_MOVED + moved_row;
        let word = (buffer + row) * (KEY_PITCH / 4u) + moved_lane;
        for (var i = 0u; i < KEY_STEPS; i++) { // unroll
          let is_outside = tile + row < low || tile + row >= high;
          if (is_outside && is_within(i, moved_lane, KEY_WORDS)) { store_key_word(word + i * ROW_THREADS, vec2u()); }
        }
      }
    }
    workgroupBarrier();

    if (has_next) {
      for (var pass = 0u; pass < PASSES; pass++) { // unroll
        let found = block_and_slot(next_tile, next_block, pass * ROWS_MOVED + moved_row, table_row, low, high - 1u);
        let at = key_place(key_base, found) + moved_lane;
        for (var i = 0u; i < KEY_STEPS; i++) { // unroll
          keys[ahead * KEY_LOADS + pass * KEY_STEPS + i] = key_data[at + step_within(i, moved_lane, KEY_WORDS)];
        }
      }
    }

    for (var k = 0u; k < OWN_KEY_TILES; k++) { // unroll
      let key_tile = k * KEY_SPLIT + first_key_tile;
      var scores = Result();
      for (var step = 0u; step < STEPS; step++) { // unroll
        let column = (k_group * STEPS + step) * 16u;
        let fragment = key_fragment((buffer + key_tile * 16u) * KEY_PITCH + column, thread);
        for (var part = 0u; part < QUERY_PARTS; part++) { // unroll
          scores = multiply_add(fragment, query[part * STEPS + step], scores, thread);
        }
      }
      let row = (k_group * ROW_TILES + row_tile) * TILE_ROWS;
      store_result(row * SCORE_PITCH + key_tile * 16u, SCORE_PITCH, scores, thread);
    }
    workgroupBarrier();

    // Softmax. This thread's scores: OWN keys of row own_row.
    var own: array<f32, OWN>;
    var maximum = LOWEST;
    var unsound = false;
    for (var j = 0u; j < OWN; j++) { // unroll
      var score = 0.0;
      for (var g = 0u; g < K_GROUPS; g++) { // unroll
        score += scratch[(g * ROWS + own_row) * SCORE_PITCH + row_lane * OWN + j];
      }
      score *= score_scale;
      var finite = true;
      if (SOFTCAP) {
        finite = !is_nan_bits(bitcast<u32>(score));
        score = capped(score) * LOG2_E;
      }
      let key = tile + row_lane * OWN + j;
      let visible = key >= low && key < high;
      finite = finite & is_finite_bits(bitcast<u32>(score));
      unsound = unsound | (visible & !finite);
      own[j] = select(LOWEST, score, visible & finite);
      maximum = max(maximum, own[j]);
    }
    own_sum = select(own_sum, nan(), unsound);
    maximum = row_maximum(maximum, thread);
    if (maximum > reference + LIMIT) {
      let raised = maximum - SLACK;
      let factor = exp2(reference - raised);
      own_sum *= factor;
      reference = raised;
      if (row_lane == 0u) { row_factors[own_row] = factor; }
      raised_tile[0] = tile;
    } else if (row_lane == 0u) {
      row_factors[own_row] = 1.0;
    }
    for (var j = 0u; j < OWN_PAIRS; j++) { // unroll
      var pair = exp2(vec2f(own[2u * j], own[2u * j + 1u]) - reference);
      pair = select(pair, vec2f(), vec2f(own[2u * j], own[2u * j + 1u]) == vec2f(LOWEST));
      let rounded = rounded2(pair);
      store_weight_word((own_row * WEIGHT_PITCH + row_lane * OWN) / 2u + j, pack2x16float(rounded));
      own_sum += rounded.x + rounded.y;
    }
    for (var pass = 0u; pass < PASSES; pass++) { // unroll
      let word = (pass * ROWS_MOVED + moved_row) * (VALUE_PITCH / 4u) + moved_lane;
      for (var i = 0u; i < VALUE_STEPS; i++) { // unroll
        if (is_within(i, moved_lane, VALUE_WORDS)) {
          store_value_word(word + i * ROW_THREADS, values[ahead * VALUE_LOADS + pass * VALUE_STEPS + i]);
        }
      }
    }
    if (!SHARED && is_edge) {
      for (var pass = 0u; pass < PASSES; pass++) { // unroll
        let row = pass * ROWS_MOVED + moved_row;
        let word = row * (VALUE_PITCH / 4u) + moved_lane;
        for (var i = 0u; i < VALUE_STEPS; i++) { // unroll
          let is_outside = tile + row < low || tile + row >= high;
          if (is_outside && is_within(i, moved_lane, VALUE_WORDS)) {
            store_value_word(word + i * ROW_THREADS, vec2u());
          }
        }
      }
    }
    let raises = workgroupUniformLoad(&raised_tile[0]) == tile;

    if (has_next) {
      for (var pass = 0u; pass < PASSES; pass++) { // unroll
        let found = block_and_slot(next_tile, next_block, pass * ROWS_MOVED + moved_row, table_row, low, high - 1u);
        let at = value_place(value_base, found) + moved_lane;
        for (var i = 0u; i < VALUE_STEPS; i++) { // unroll
          let step = step_within(i, moved_lane, VALUE_WORDS);
          values[ahead * VALUE_LOADS + pass * VALUE_STEPS + i] = value_data[at + step];
        }
      }
      next_block = plan[table_row + min(next_tile + KEYS, last_tile) / BLOCK_SIZE];
    }

    if (raises && tile != first_tile) {
      for (var column_tile = 0u; column_tile < COLUMN_TILES; column_tile++) { // unroll
        for (var r = 0u; r < ROW_TILES; r++) { // unroll
          store_result(subgroup * TILE_ROWS * SUM_PITCH, SUM_PITCH, sums[column_tile * ROW_TILES + r], thread);
          workgroupBarrier();
          for (var at = thread % 32u; at < TILE_ROWS * 16u; at += 32u) {
            scratch[(subgroup * TILE_ROWS + at / 16u) * SUM_PITCH + at % 16u] *= row_factors[r * TILE_ROWS + at / 16u];
          }
          workgroupBarrier();
          sums[column_tile * ROW_TILES + r] = load_result(subgroup * TILE_ROWS * SUM_PITCH, SUM_PITCH, thread);
          workgroupBarrier();
        }
      }
    }

    for (var k = 0u; k < KEY_TILES; k++) { // unroll
      var weights: array<Right, ROW_TILES>;
      for (var r = 0u; r < ROW_TILES; r++) { // unroll
        weights[r] = weight_fragment(r * TILE_ROWS * WEIGHT_PITCH + k * 16u, thread);
      }
      for (var column_tile = 0u; column_tile < COLUMN_TILES; column_tile++) { // unroll
        let column = (subgroup * COLUMN_TILES + column_tile) * 16u;
        let fragment = value_fragment((select(0u, buffer, SHARED) + k * 16u) * VALUE_PITCH + column, thread);
        for (var r = 0u; r < ROW_TILES; r++) { // unroll
          sums[column_tile * ROW_TILES + r] =
            multiply_add(fragment, weights[r], sums[column_tile * ROW_TILES + r], thread);
        }
      }
    }
    if (BUFFERS == 1u) { workgroupBarrier(); }
  }
  }

  let sum = row_sum(own_sum, thread);
  if (row_lane == 0u) {
    let state = with_sink(first_place + min(own_row, row_count - 1u), vec2f(reference, sum));
    row_factors[own_row] = exp2(reference - state.x);
    row_sums[own_row] = state.y;
    if (own_row < row_count) { store_state(first_place + own_row, split, state.x, state.y); }
  }
  // Partial results of whole tiles leave from registers.
  if (SPLIT && row_count == ROWS) {
    for (var column_tile = 0u; column_tile < COLUMN_TILES; column_tile++) { // unroll
      for (var r = 0u; r < ROW_TILES; r++) { // unroll
        let row_at = ((first_place + r * TILE_ROWS) * params.splits + split) * VALUE_DIM;
        let column = (subgroup * COLUMN_TILES + column_tile) * 16u;
        store_sums(row_at + column, params.splits * VALUE_DIM, sums[column_tile * ROW_TILES + r], thread);
      }
    }
    return;
  }
  for (var column_tile = 0u; column_tile < COLUMN_TILES; column_tile++) { // unroll
    for (var r = 0u; r < ROW_TILES; r++) { // unroll
      workgroupBarrier();
      store_result(subgroup * TILE_ROWS * SUM_PITCH, SUM_PITCH, sums[column_tile * ROW_TILES + r], thread);
      workgroupBarrier();
      for (var at = thread % 32u; at < TILE_ROWS * 16u; at += 32u) {
        let row = r * TILE_ROWS + at / 16u;
        var value = scratch[(subgroup * TILE_ROWS + at / 16u) * SUM_PITCH + at % 16u];
        if (SINKS && !SPLIT) { value *= row_factors[row]; }
        if (!SPLIT) { value = select(value / row_sums[row], 0.0, row_sums[row] == 0.0); }
        let place = first_place + row;
        let out_at = select(params.out_first + place * VALUE_DIM, (place * params.splits + split) * VALUE_DIM, SPLIT);
        if (row < row_count) { out[out_at + (subgroup * COLUMN_TILES + column_tile) * 16u + at % 16u] = value; }
      }
    }
  }
}
`;
