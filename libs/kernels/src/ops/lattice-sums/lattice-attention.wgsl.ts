export const LATTICE_ATTENTION_WGSL = /* wgsl */ `
// World-invariant attention of a group of query rows over a split of one sequence's keys: what attentionBounds needs
// (SUMS false), or the exact integer sums of latticeSums (SUMS true).
//
// Grid, ownership and memory traffic: as in partial-attention.wgsl, whose ways of sharing keys and rows these are: an
// item's rows by ROWS, a split's keys by TILE, LANES threads to a key row, TEAMS teams. Queries once, each visible key
// and value once per row group, the split's result once. With SUMS the bounds of the rows once.
// Numerical contract: f32 and integers. A score's bits depend on its query row and key row alone: one kernel for every
// step, explicit fused products, sums over lanes in one tree. What is joined over keys, teams, splits, calls and ranks
// are maxima and integers, which know no order:
// - bounds: the largest score (times log2(e)), exponent of values, and sum of both, as attentionBounds says
// - sums: of round(w * 2^26) for the weights w = exp2(score - bound), and for each column of round(w * 2^b * value),
//   2^b being 1 over the step of the row's lattice: a power of two, so that one fused product is rounded. A term is at
//   most 2^26 in size; FLUSH_STEPS tiles of them fit i32 beside 26 bits that are left from before. What is above 26
//   bits goes to a second i32.
// Keys that a row does not see have weight 0, and add the integer 0. A value that is not finite is left out and marks
// its column; a score that is not finite makes the row's bound so, and its sums 0.
//
// Before this text come: the constants of partial-attention.wgsl that are used, SUMS, FLUSH_STEPS, POISON_WORDS (words
// with a bit for each column); as code its loads and exchanges, and team_maximum (largest u32 of a team's lanes).

// Of every row and split: with SUMS low and high words of every column and of the weights, [T, Hq, splits, Dv + 1, 2];
// else bits of the three bounds, [T, Hq, splits, 3].
@group(0) @binding(2) var<storage, read_write> results: array<u32>;
// Bits of the bounds of all ranks: [T, Hq] each from out_first, from lse_first, and as far again behind that.
@group(0) @binding(3) var<storage, read> bounds: array<u32>;

const RESULT_COLUMNS = VALUE_DIM + 1u;
// Of 0.5.
const HALF_BITS = 0x3f000000u;

// One row's values of all threads: vector v of thread i at v * THREADS + i.
var<workgroup> team_values: array<vec4i, VALUE_VECTORS * THREADS>;
var<workgroup> team_maxima: array<vec3f, ROWS * TEAMS>;
// A row's weights: their lowest 13 bits, the 13 bits above, and the rest.
var<workgroup> weight_sums: array<atomic<u32>, ROWS * 3u>;
// Bit c: column c of the row has a value that is not finite.
var<workgroup> poisoned_columns: array<atomic<u32>, ROWS * POISON_WORDS>;
// Bit r: row r has a score that is not finite.
var<workgroup> poisoned_rows: atomic<u32>;

struct Rows {
  first_token: u32,
  first_head: u32,
  heads: u32,
  count: u32,
}

// The query heads of a KV head, and how many rows they make with an item's tokens.
fn rows_of(item: u32, kv_head: u32) -> Rows {
  let low = kv_head * params.group_size;
  let high = low + params.group_size;
  let first_head = select(0u, low - params.group_offset, low > params.group_offset);
  let end_head = min(params.query_heads, select(0u, high - params.group_offset, high > params.group_offset));
  let heads = select(0u, end_head - first_head, end_head > first_head);
  return Rows(plan[item * 4u], first_head, heads, heads * plan[item * 4u + 1u]);
}

// Place of a row in [T, Hq].
fn place_of(rows: Rows, row: u32) -> u32 {
  let token = rows.first_token + row / rows.heads;
  return token * params.query_heads + rows.first_head + row % rows.heads;
}

// Local indexes [x, y) that a row of an item sees.
fn range_of(rows: Rows, row: u32) -> vec2u {
  let token_at = params.tokens_at + (rows.first_token + row / rows.heads) * 3u;
  return vec2u(plan[token_at + 1u], plan[token_at + 2u]);
}

@compute @workgroup_size(THREADS)
fn lattice_attention(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
  PLACE_PARAMETER
) {
  let place = PLACE;
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let row_group = index % params.row_groups;
  let kv_head = (index / params.row_groups) % params.kv_heads;
  let split = (index / (params.row_groups * params.kv_heads)) % params.splits;
  let item = index / (params.splits * params.row_groups * params.kv_heads);
  let rows = rows_of(item, kv_head);
  let first_row = row_group * ROWS;
  if (first_row >= rows.count) { return; }
  let first_key = (params.first_split + split) * params.split_keys;
  let low = max(plan[item * 4u + 2u], first_key);
  let high = min(plan[item * 4u + 3u], first_key + params.split_keys);
  if (low >= high) { return; }
  // Devices are opened without the zeroing of workgroup memory.
  if (SUMS) {
    for (var i = thread; i < ROWS * 3u; i += THREADS) { atomicStore(&weight_sums[i], 0u); }
    for (var i = thread; i < ROWS * POISON_WORDS; i += THREADS) { atomicStore(&poisoned_columns[i], 0u); }
  } else if (thread == 0u) {
    atomicStore(&poisoned_rows, 0u);
  }
  workgroupBarrier();
  let table_row = params.table_at + plan[params.tokens_at + rows.first_token * 3u] * params.table_width;
  let lane = thread % LANES;
  let team = thread / LANES;

  var scale = params.scale;
  var value_scale = 1.0;
  if (QUANTISED) {
    scale *= bitcast<f32>(plan[params.scales_at + kv_head]);
    value_scale = bitcast<f32>(plan[params.scales_at + params.kv_heads + kv_head]);
  }

  // Query rows, scaled, in registers: lane l holds chunks l, l + LANES, ...
  var query: array<vec4f, ROWS * KEY_VECTORS>;
  for (var r = 0u; r < ROWS; r++) { // unroll
    let row = min(first_row + r, rows.count - 1u);
    let row_at = params.query_first + place_of(rows, row) * KEY_DIM;
    for (var v = 0u; v < KEY_VECTORS; v++) { // unroll
      let column = (lane + LANES * (v / CHUNK_VECTORS)) * CHUNK + 4u * (v % CHUNK_VECTORS);
      query[r * KEY_VECTORS + v] = scale * query_vector(row_at, column);
    }
  }

  // Of this lane's own scores: which keys their rows see, and the rows' bounds.
  let own_first = (lane / SPREAD) * OWN;
  var row_low: array<u32, OWN_ROWS>;
  var row_high: array<u32, OWN_ROWS>;
  var row_bound: array<f32, OWN_ROWS>;
  var row_factor: array<f32, OWN_ROWS>;
  for (var j = 0u; j < OWN_ROWS; j++) { // unroll
    let row = min(first_row + own_first / KEYS + j, rows.count - 1u);
    let range = range_of(rows, row);
    row_low[j] = max(low, range.x);
    row_high[j] = min(high, range.y);
    if (SUMS) {
      let at = params.out_first + place_of(rows, row);
      let next = params.lse_first - params.out_first;
      let bound = bounds[at];
      let has_sums = is_finite_bits(bound);
      if (!has_sums) { row_high[j] = row_low[j]; }
      row_bound[j] = select(0.0, bitcast<f32>(bound), has_sums);
      row_factor[j] = lattice_factor(lattice_exponent(bound, bounds[at + next], bounds[at + 2u * next]));
    }
  }

  // Bounds; sums of weights.
  var maxima: array<vec3f, OWN_ROWS>;
  for (var j = 0u; j < OWN_ROWS; j++) { // unroll
    maxima[j] = vec3f(LOWEST);
  }
  var weight_low: array<i32, OWN_ROWS>;
  var weight_high: array<i32, OWN_ROWS>;
  var values_low: array<vec4i, ROWS * VALUE_VECTORS>;
  var values_high: array<vec4i, ROWS * VALUE_VECTORS>;
  var steps = 0u;

  let key_base = params.key_first + kv_head * params.key_head_stride;
  let value_base = params.value_first + kv_head * params.value_head_stride;
  let first_tile = (low / TILE) * TILE;
  var keys: array<FetchedKey, KEYS * KEY_ROUNDS>;
  var value_at: array<u32, KEYS>;
  var next_block: array<u32, KEYS>;
  // With ROW_SCALES: scales of the keys that were fetched, and the places of those of the values.
  var key_scales: array<f32, KEYS>;
  var value_scale_place: array<u32, KEYS>;
  for (var k = 0u; k < KEYS; k++) { // unroll
    let key = clamp(first_tile + k * TEAMS + team, low, high - 1u);
    let block = plan[table_row + key / BLOCK_SIZE];
    let slot = key % BLOCK_SIZE;
    let key_at = key_base + block * params.key_block_stride + slot * params.key_slot_stride;
    value_at[k] = value_base + block * params.value_block_stride + slot * params.value_slot_stride;
    if (ROW_SCALES) {
      key_scales[k] = key_scale_at(key_scale_place(block, slot, kv_head));
      value_scale_place[k] = value_scale_place_of(block, slot, kv_head);
    }
    for (var round = 0u; round < KEY_ROUNDS; round++) { // unroll
      keys[k * KEY_ROUNDS + round] = fetch_key(key_at, lane + LANES * round);
    }
    let next_key = min(first_tile + TILE + k * TEAMS + team, high - 1u);
    next_block[k] = plan[table_row + next_key / BLOCK_SIZE];
  }

  for (var tile = first_tile; tile < high; tile += TILE) {
    var fetched: array<FetchedValue, KEYS * VALUE_ROUNDS>;
    for (var k = 0u; k < KEYS; k++) { // unroll
      for (var round = 0u; round < VALUE_ROUNDS; round++) { // unroll
        fetched[k * VALUE_ROUNDS + round] = fetch_value(value_at[k], lane + LANES * round);
      }
    }
    var value_scales = array<f32, KEYS>();
    for (var k = 0u; k < KEYS; k++) { // unroll
      if (ROW_SCALES) { value_scales[k] = value_scale_at(value_scale_place[k]); }
    }

    // Initialised by hand: some compilers zero a plain 'var' only in the first iteration.
    var scores = array<f32, SCORES>();
    for (var k = 0u; k < KEYS; k++) { // unroll
      for (var round = 0u; round < KEY_ROUNDS; round++) { // unroll
        let loaded = decoded_key(keys[k * KEY_ROUNDS + round]);
        for (var v = 0u; v < CHUNK_VECTORS; v++) { // unroll
          let b = loaded[v];
          for (var r = 0u; r < ROWS; r++) { // unroll
            let a = query[r * KEY_VECTORS + round * CHUNK_VECTORS + v];
            scores[r * KEYS + k] = fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, scores[r * KEYS + k]))));
          }
        }
      }
    }

    if (ROW_SCALES) {
      for (var k = 0u; k < KEYS; k++) { // unroll
        for (var r = 0u; r < ROWS; r++) { // unroll
          scores[r * KEYS + k] *= key_scales[k];
        }
      }
    }

    // The next tile's keys, whose blocks were looked up one tile earlier; beyond the end, the last key again.
    for (var k = 0u; k < KEYS; k++) { // unroll
      let key = min(tile + TILE + k * TEAMS + team, high - 1u);
      let slot = key % BLOCK_SIZE;
      let key_at = key_base + next_block[k] * params.key_block_stride + slot * params.key_slot_stride;
      value_at[k] = value_base + next_block[k] * params.value_block_stride + slot * params.value_slot_stride;
      if (ROW_SCALES) {
        key_scales[k] = key_scale_at(key_scale_place(next_block[k], slot, kv_head));
        value_scale_place[k] = value_scale_place_of(next_block[k], slot, kv_head);
      }
      for (var round = 0u; round < KEY_ROUNDS; round++) { // unroll
        keys[k * KEY_ROUNDS + round] = fetch_key(key_at, lane + LANES * round);
      }
      let later_key = min(key + TILE, high - 1u);
      next_block[k] = plan[table_row + later_key / BLOCK_SIZE];
    }

    // For bounds, of each key of the team: the exponent of its largest finite value, LOWEST if there is none but 0.
    var exponents = array<f32, KEYS>();
    if (!SUMS) {
      for (var k = 0u; k < KEYS; k++) { // unroll
        var largest = vec4u();
        for (var round = 0u; round < VALUE_ROUNDS; round++) { // unroll
          let loaded = decoded_value(fetched[k * VALUE_ROUNDS + round]);
          for (var v = 0u; v < CHUNK_VECTORS; v++) { // unroll
            let bits = bitcast<vec4u>(loaded[v]) & vec4u(0x7fffffffu);
            largest = max(largest, select(bits, vec4u(), bits >= vec4u(0x7f800000u)));
          }
        }
        let pair = max(largest.xy, largest.zw);
        let whole = team_maximum(max(pair.x, pair.y), place);
        exponents[k] = value_exponent(bitcast<f32>(whole) * worth_of(value_scale, value_scales[k]));
      }
    }

    var own = own_scores(scores, place);
    for (var j = 0u; j < OWN; j++) { // unroll
      let k = (own_first + j) % KEYS;
      let key = tile + k * TEAMS + team;
      var score = own[j];
      // An infinity has a bound under a softcap; NaN has none.
      var finite = true;
      if (SOFTCAP) {
        finite = !is_nan_bits(bitcast<u32>(score));
        score = capped(score);
      }
      score *= LOG2_E;
      let visible = key >= row_low[j / KEYS] && key < row_high[j / KEYS];
      finite = finite & is_finite_bits(bitcast<u32>(score));
      if (!SUMS && visible && !finite) { atomicOr(&poisoned_rows, 1u << (own_first / KEYS + j / KEYS)); }
      if (SUMS) {
        // Not more than 1, should a score differ from that of the kernel that found the bound.
        let weight = select(0.0, exp2(min(score - row_bound[j / KEYS], 0.0)), visible & finite);
        weight_low[j / KEYS] += i32(round(weight * 0x1p+26));
        own[j] = weight * row_factor[j / KEYS];
        if (QUANTISED) { own[j] = bounded(own[j] * value_scale); }
      } else {
        var exponent = LOWEST;
        for (var other = 0u; other < KEYS; other++) { // unroll
          exponent = select(exponent, exponents[other], other == k);
        }
        let product = select(LOWEST, score + exponent, exponent > LOWEST);
        let larger = max(maxima[j / KEYS], vec3f(score, product, exponent));
        maxima[j / KEYS] = select(maxima[j / KEYS], larger, visible & finite);
      }
    }
    if (SUMS) {
      var weights = all_scores(own, place);
      if (ROW_SCALES) {
        for (var k = 0u; k < KEYS; k++) { // unroll
          let worth = value_scales[k];
          let counts = is_finite_bits(bitcast<u32>(worth));
          if (!counts) { poison_columns(rows, first_row, tile + k * TEAMS + team, low, high); }
          for (var r = 0u; r < ROWS; r++) { // unroll
            weights[r * KEYS + k] = select(0.0, bounded(weights[r * KEYS + k] * worth), counts);
          }
        }
      }
      for (var k = 0u; k < KEYS; k++) { // unroll
        for (var round = 0u; round < VALUE_ROUNDS; round++) { // unroll
          let loaded = decoded_value(fetched[k * VALUE_ROUNDS + round]);
          for (var v = 0u; v < CHUNK_VECTORS; v++) { // unroll
            var value = loaded[v];
            if (MAY_BE_INFINITE) {
              let infinite = (bitcast<vec4u>(value) & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
              if (any(infinite)) {
                let column = (lane + LANES * round) * CHUNK + 4u * v;
                poison_some(rows, first_row, tile + k * TEAMS + team, low, high, column, infinite);
                value = select(value, vec4f(), infinite);
              }
            }
            // Cutting off what is behind the point rounds to the nearest integer then, half an integer away from 0. It
            // costs one conversion; 'round' costs another.
            let half = bitcast<vec4f>((bitcast<vec4u>(value) & vec4u(0x80000000u)) | vec4u(HALF_BITS));
            for (var r = 0u; r < ROWS; r++) { // unroll
              let term = fma(vec4f(weights[r * KEYS + k]), value, half);
              values_low[r * VALUE_VECTORS + round * CHUNK_VECTORS + v] += vec4i(term);
            }
          }
        }
      }
      steps++;
      if (steps == FLUSH_STEPS || tile + TILE >= high) {
        steps = 0u;
        for (var j = 0u; j < OWN_ROWS; j++) { // unroll
          weight_high[j] += weight_low[j] >> 26u;
          weight_low[j] &= 0x3ffffff;
        }
        for (var i = 0u; i < ROW_VECTORS; i++) { // unroll
          values_high[i] += values_low[i] >> vec4u(26u);
          values_low[i] &= vec4i(0x3ffffff);
        }
      }
    }
  }

  // Join the teams.
  if (SUMS) {
    if (lane % SPREAD == 0u) {
      for (var j = 0u; j < OWN_ROWS; j++) { // unroll
        let r = own_first / KEYS + j;
        if (r < ROWS) {
          atomicAdd(&weight_sums[r * 3u], u32(weight_low[j]) & 0x1fffu);
          atomicAdd(&weight_sums[r * 3u + 1u], u32(weight_low[j]) >> 13u);
          atomicAdd(&weight_sums[r * 3u + 2u], bitcast<u32>(weight_high[j]));
        }
      }
    }
    for (var r = 0u; r < ROWS; r++) { // unroll
      let result_at = (place_of(rows, min(first_row + r, rows.count - 1u)) * params.splits + split) * RESULT_COLUMNS;
      for (var v = 0u; v < VALUE_VECTORS; v++) { // unroll
        team_values[v * THREADS + thread] = values_low[r * VALUE_VECTORS + v];
      }
      workgroupBarrier();
      if (first_row + r < rows.count) { store_low_words(result_at, thread); }
      workgroupBarrier();
      for (var v = 0u; v < VALUE_VECTORS; v++) { // unroll
        team_values[v * THREADS + thread] = values_high[r * VALUE_VECTORS + v];
      }
      workgroupBarrier();
      if (first_row + r < rows.count) {
        store_high_words(result_at, r, thread);
        if (thread == 0u) { store_weights(result_at, r); }
      }
      workgroupBarrier();
    }
  } else {
    for (var j = 0u; j < OWN_ROWS; j++) { // unroll
      let own_largest = maxima[j];
      let largest = vec3f(
        row_maximum(own_largest.x, place),
        row_maximum(own_largest.y, place),
        row_maximum(own_largest.z, place),
      );
      let r = own_first / KEYS + j;
      if (lane % ROW_LANES == 0u && r < ROWS) { team_maxima[r * TEAMS + team] = largest; }
    }
    workgroupBarrier();
    if (thread < ROWS && first_row + thread < rows.count) {
      var largest = vec3f(LOWEST);
      for (var t = 0u; t < TEAMS; t++) { largest = max(largest, team_maxima[thread * TEAMS + t]); }
      let at = (place_of(rows, first_row + thread) * params.splits + split) * 3u;
      let poisoned = (atomicLoad(&poisoned_rows) & (1u << thread)) != 0u;
      results[at] = select(bound_bits(largest.x), INFINITY_BITS, poisoned);
      results[at + 1u] = bound_bits(largest.y);
      results[at + 2u] = bound_bits(largest.z);
    }
  }
}

// Of factors on values: beyond this one are only those of values of 0, and infinity times 0 is none.
fn bounded(factor: f32) -> f32 {
  return clamp(factor, -0x1p+126, 0x1p+126);
}

// The lowest number stands for no number.
fn bound_bits(bound: f32) -> u32 {
  return select(bitcast<u32>(bound), NEGATIVE_INFINITY_BITS, bound == LOWEST);
}

// What a stored value is worth: the scale of its head, or of its row.
fn worth_of(head_scale: f32, row_scale: f32) -> f32 {
  if (!ROW_SCALES) { return head_scale; }
  return select(0.0, row_scale, is_finite_bits(bitcast<u32>(row_scale)));
}

fn key_scale_place(block: u32, slot: u32, kv_head: u32) -> u32 {
  return params.key_scale_first + block * params.key_scale_block_stride + slot * params.key_scale_slot_stride
    + kv_head * params.key_scale_head_stride;
}

fn value_scale_place_of(block: u32, slot: u32, kv_head: u32) -> u32 {
  return params.value_scale_first + block * params.value_scale_block_stride + slot * params.value_scale_slot_stride
    + kv_head * params.value_scale_head_stride;
}

// Marks columns of the rows that see a key, whose values at 'column' and after it are not finite where 'infinite' says.
fn poison_some(rows: Rows, first_row: u32, key: u32, low: u32, high: u32, column: u32, infinite: vec4<bool>) {
  if (key < low || key >= high) { return; }
  for (var r = 0u; r < ROWS; r++) {
    if (first_row + r >= rows.count) { return; }
    let range = range_of(rows, first_row + r);
    if (key < range.x || key >= range.y) { continue; }
    for (var j = 0u; j < 4u; j++) {
      if (infinite[j] && column + j < VALUE_DIM) {
        atomicOr(&poisoned_columns[r * POISON_WORDS + (column + j) / 32u], 1u << ((column + j) % 32u));
      }
    }
  }
}

// Marks all columns of the rows that see a key.
fn poison_columns(rows: Rows, first_row: u32, key: u32, low: u32, high: u32) {
  for (var column = 0u; column < VALUE_DIM; column += 4u) {
    poison_some(rows, first_row, key, low, high, column, vec4<bool>(true));
  }
}

// Adds the low words that the teams left in team_values; what is above 26 bits waits in the place of the high word.
// Thread i takes vectors i, i + THREADS, ...
fn store_low_words(result_at: u32, thread: u32) {
  for (var at = thread; at < VALUE_VECTORS * LANES; at += THREADS) {
    var sum = vec4u();
    var carry = vec4u();
    for (var t = 0u; t < TEAMS; t++) {
      sum += vec4u(team_values[(at / LANES) * THREADS + t * LANES + at % LANES]);
      carry += sum >> vec4u(26u);
      sum &= vec4u(0x3ffffffu);
    }
    let column = column_of(at);
    for (var j = 0u; j < 4u; j++) {
      if (column + j >= VALUE_DIM) { break; }
      results[(result_at + column + j) * 2u] = sum[j];
      results[(result_at + column + j) * 2u + 1u] = carry[j];
    }
  }
}

// Adds the high words, each by the thread that added the low ones.
fn store_high_words(result_at: u32, r: u32, thread: u32) {
  for (var at = thread; at < VALUE_VECTORS * LANES; at += THREADS) {
    var sum = vec4i();
    for (var t = 0u; t < TEAMS; t++) { sum += team_values[(at / LANES) * THREADS + t * LANES + at % LANES]; }
    let column = column_of(at);
    for (var j = 0u; j < 4u; j++) {
      if (column + j >= VALUE_DIM) { break; }
      let marks = atomicLoad(&poisoned_columns[r * POISON_WORDS + (column + j) / 32u]);
      let poisoned = ((marks >> ((column + j) % 32u)) & 1u) != 0u;
      let place = (result_at + column + j) * 2u + 1u;
      results[place] = select(bitcast<u32>(sum[j]) + results[place], NOT_FINITE, poisoned);
    }
  }
}

// First column of vector 'at' of a row.
fn column_of(at: u32) -> u32 {
  let v = at / LANES;
  return (at % LANES + LANES * (v / CHUNK_VECTORS)) * CHUNK + 4u * (v % CHUNK_VECTORS);
}

fn store_weights(result_at: u32, r: u32) {
  let middle = atomicLoad(&weight_sums[r * 3u + 1u]);
  let low = atomicLoad(&weight_sums[r * 3u]) + ((middle & 0x1fffu) << 13u);
  let high = atomicLoad(&weight_sums[r * 3u + 2u]) + (middle >> 13u);
  let at = (result_at + VALUE_DIM) * 2u;
  results[at] = low;
  results[at + 1u] = high;
}
`;
