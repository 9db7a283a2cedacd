export const PARTIAL_ATTENTION_WGSL = /* wgsl */ `
// Attention of a group of query rows over a split of one sequence's keys (split-KV flash decoding).
//
// Grid: (item, split, KV head, row group), row groups innermost: those of one split read the same keys at the same
// time, and all KV heads of a split together read memory that lies together. An item is some query tokens of one
// sequence; its rows are (token, query head of the KV head); a workgroup takes up to ROWS of them and the local key
// indexes [s * split_keys, (s + 1) * split_keys), s being first_split + split, that one of its tokens sees.
// Ownership: LANES threads hold one key row at a time between them (a "team"); TEAMS teams work on keys of a tile of
// TILE = TEAMS * KEYS keys, each with its own online softmax; the teams are folded at the end, in team order. Every
// element of K and V that a workgroup loads serves all its ROWS query rows. Of a team's SCORES scores (row r, key k at
// r * KEYS + k) each lane owns OWN, whose softmax it computes: lane l from (l / SPREAD) * OWN on.
// Memory traffic: each visible key and value once per row group; queries, and out or the split's partial result, once.
// While a tile's scores are computed its values are on their way, and then the next tile's keys.
// Numerical contract: f32. Scores are kept times log2(e), so that exponentials are exp2. Keys are assigned to teams by
// their absolute index: a row's result does not depend on where its item's keys begin. Places of a tile beyond the
// item's keys load its nearest key instead, with weight and values 0; keys that a row does not see are never added to
// it (selected away, not multiplied by 0). No float is infinite: a running maximum starts at LOWEST, and -inf leaves as
// a bit pattern. A visible score that is not finite (told by its bits) counts as LOWEST and makes the row's sum NaN,
// and so its output and LSE. Weights of keys that a row does not see are HIDDEN where values are added.
//
// Before this text come, as constants: THREADS, LANES, TEAMS, KEYS, TILE, ROWS, ROW_SLOTS (ROWS up to a power of two),
// SCORES (KEYS * ROW_SLOTS), OWN, OWN_ROWS and OWN_KEYS (rows that a lane's own scores belong to, and keys of each),
// SPREAD (lanes that own the same), ROW_LANES (lanes that own a row's scores), SPLIT (write partial results),
// SEVERAL_TOKENS (rows may see different keys), SOFTCAP, SINKS (rows have sinks, which join where the splits end),
// QUANTISED (KV heads have scales), ROW_SCALES (rows of keys and values have scales), KEY_DIM, VALUE_DIM, CHUNK
// (elements of a key that one load takes), CHUNK_VECTORS, KEY_CHUNKS and VALUE_CHUNKS (per row), KEY_ROUNDS and
// VALUE_ROUNDS (chunks per lane), KEY_VECTORS and VALUE_VECTORS (vec4f per lane), BLOCK_SIZE; as code: query_vector,
// fetch_key, decoded_key, fetch_value, decoded_value; with ROW_SCALES key_scale_at and value_scale_at; own_scores,
// all_scores, all_rows, row_maximum, row_sum (see team-exchange.ts); PLACE and its parameter. Loops marked 'unroll' are
// written out.

// In the place of a weight.
const HIDDEN = -1.0;

var<workgroup> team_maxima: array<f32, ROWS * TEAMS>;
var<workgroup> team_sums: array<f32, ROWS * TEAMS>;
// One row's sums of all threads: vector v of thread i at v * THREADS + i.
var<workgroup> team_values: array<vec4f, VALUE_VECTORS * THREADS>;

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

@compute @workgroup_size(THREADS)
fn partial_attention(
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
  var high = plan[item * 4u + 3u];
  if (SPLIT) {
    high = min(high, first_key + params.split_keys);
    if (low >= high) { return; }
  }
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

  // Which keys the rows of this lane's own scores see.
  let own_first = (lane / SPREAD) * OWN;
  var row_low: array<u32, OWN_ROWS>;
  var row_high: array<u32, OWN_ROWS>;
  for (var j = 0u; j < OWN_ROWS; j++) { // unroll
    row_low[j] = low;
    row_high[j] = high;
    if (SEVERAL_TOKENS) {
      let row = min(first_row + own_first / KEYS + j, rows.count - 1u);
      let token_at = params.tokens_at + (rows.first_token + row / rows.heads) * 3u;
      row_low[j] = max(low, plan[token_at + 1u]);
      row_high[j] = min(high, plan[token_at + 2u]);
    }
  }

  var maxima: array<f32, OWN_ROWS>;
  var sums: array<f32, OWN_ROWS>;
  for (var j = 0u; j < OWN_ROWS; j++) { // unroll
    maxima[j] = LOWEST;
  }
  var values: array<vec4f, ROWS * VALUE_VECTORS>;

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

    var own = own_scores(scores, place);
    var rescale: array<f32, OWN_ROWS>;
    var hidden: array<bool, OWN>;
    for (var j = 0u; j < OWN; j++) { // unroll
      let key = tile + ((own_first + j) % KEYS) * TEAMS + team;
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
      sums[j / KEYS] = select(sums[j / KEYS], nan(), visible & !finite);
      own[j] = select(LOWEST, score, visible & finite);
      hidden[j] = !visible;
    }
    for (var j = 0u; j < OWN_ROWS; j++) { // unroll
      var maximum = maxima[j];
      for (var k = 0u; k < OWN_KEYS; k++) { // unroll
        maximum = max(maximum, own[j * OWN_KEYS + k]);
      }
      maximum = row_maximum(maximum, place);
      rescale[j] = exp2(maxima[j] - maximum);
      maxima[j] = maximum;
      var sum = sums[j] * rescale[j];
      for (var k = 0u; k < OWN_KEYS; k++) { // unroll
        let score = own[j * OWN_KEYS + k];
        let weight = select(exp2(score - maximum), 0.0, score == LOWEST);
        own[j * OWN_KEYS + k] = select(weight, HIDDEN, SEVERAL_TOKENS && hidden[j * OWN_KEYS + k]);
        sum += weight;
      }
      sums[j] = sum;
    }
    var weights = all_scores(own, place);
    if (ROW_SCALES) {
      for (var k = 0u; k < KEYS; k++) { // unroll
        for (var r = 0u; r < ROWS; r++) { // unroll
          let weight = weights[r * KEYS + k];
          weights[r * KEYS + k] = select(weight * value_scales[k], HIDDEN, SEVERAL_TOKENS && weight == HIDDEN);
        }
      }
    }
    let factors = all_rows(rescale, place);
    var changes = false;
    for (var r = 0u; r < ROWS; r++) { // unroll
      changes = changes || factors[r] != 1.0;
    }
    if (changes) {
      for (var r = 0u; r < ROWS; r++) { // unroll
        for (var v = 0u; v < VALUE_VECTORS; v++) { // unroll
          values[r * VALUE_VECTORS + v] *= factors[r];
        }
      }
    }

    if (tile < low || tile + TILE > high) {
      for (var k = 0u; k < KEYS; k++) { // unroll
        let key = tile + k * TEAMS + team;
        if (key < low || key >= high) {
          for (var round = 0u; round < VALUE_ROUNDS; round++) { // unroll
            fetched[k * VALUE_ROUNDS + round] = FetchedValue();
          }
        }
      }
    }
    for (var k = 0u; k < KEYS; k++) { // unroll
      for (var round = 0u; round < VALUE_ROUNDS; round++) { // unroll
        let loaded = decoded_value(fetched[k * VALUE_ROUNDS + round]);
        for (var v = 0u; v < CHUNK_VECTORS; v++) { // unroll
          for (var r = 0u; r < ROWS; r++) { // unroll
            let old = values[r * VALUE_VECTORS + round * CHUNK_VECTORS + v];
            let sum = fma(vec4f(weights[r * KEYS + k]), loaded[v], old);
            values[r * VALUE_VECTORS + round * CHUNK_VECTORS + v] =
              select(sum, old, SEVERAL_TOKENS && weights[r * KEYS + k] == HIDDEN);
          }
        }
      }
    }
  }

  // Fold the teams, in team order.
  for (var j = 0u; j < OWN_ROWS; j++) { // unroll
    let sum = row_sum(sums[j], place);
    let r = own_first / KEYS + j;
    if (lane % ROW_LANES == 0u && r < ROWS) {
      team_maxima[r * TEAMS + team] = maxima[j];
      team_sums[r * TEAMS + team] = sum;
    }
  }
  workgroupBarrier();
  for (var r = 0u; r < ROWS; r++) { // unroll
    let state = folded_state(r, min(first_row + r, rows.count - 1u), rows);
    for (var v = 0u; v < VALUE_VECTORS; v++) { // unroll
      let factor = value_scale * exp2(team_maxima[r * TEAMS + team] - state.x);
      team_values[v * THREADS + thread] = values[r * VALUE_VECTORS + v] * factor;
    }
    workgroupBarrier();
    if (first_row + r < rows.count) { store_row(place_of(rows, first_row + r), split, state, thread); }
    workgroupBarrier();
  }
}

fn key_scale_place(block: u32, slot: u32, kv_head: u32) -> u32 {
  return params.key_scale_first + block * params.key_scale_block_stride + slot * params.key_scale_slot_stride
    + kv_head * params.key_scale_head_stride;
}

fn value_scale_place_of(block: u32, slot: u32, kv_head: u32) -> u32 {
  return params.value_scale_first + block * params.value_scale_block_stride + slot * params.value_scale_slot_stride
    + kv_head * params.value_scale_head_stride;
}

// Maximum and sum of row 'r' of the workgroup, which is row 'row' of its item, over its teams.
fn folded_state(r: u32, row: u32, rows: Rows) -> vec2f {
  var sink = LOWEST;
  if (SINKS && !SPLIT) {
    // A token that ends at -1 is padding.
    let is_padding = plan[params.tokens_at + (rows.first_token + row / rows.heads) * 3u + 2u] == 0xffffffffu;
    if (!is_padding) { sink = bitcast<f32>(plan[params.sinks_at + rows.first_head + row % rows.heads]); }
  }
  var maximum = sink;
  for (var t = 0u; t < TEAMS; t++) { maximum = max(maximum, team_maxima[r * TEAMS + t]); }
  var sum = 0.0;
  for (var t = 0u; t < TEAMS; t++) { sum += team_sums[r * TEAMS + t] * exp2(team_maxima[r * TEAMS + t] - maximum); }
  if (SINKS && sink > LOWEST) { sum += exp2(sink - maximum); }
  return vec2f(maximum, sum);
}

// Adds what the teams left in team_values, and stores the row. Thread i takes vectors i, i + THREADS, ...
fn store_row(place: u32, split: u32, state: vec2f, thread: u32) {
  let out_at = select(params.out_first + place * VALUE_DIM, (place * params.splits + split) * VALUE_DIM, SPLIT);
  for (var at = thread; at < VALUE_VECTORS * LANES; at += THREADS) {
    let v = at / LANES;
    let lane = at % LANES;
    var folded = vec4f();
    for (var t = 0u; t < TEAMS; t++) { folded += team_values[v * THREADS + t * LANES + lane]; }
    if (!SPLIT) { folded = select(folded / state.y, vec4f(), state.y == 0.0); }
    let column = (lane + LANES * (v / CHUNK_VECTORS)) * CHUNK + 4u * (v % CHUNK_VECTORS);
    for (var j = 0u; j < 4u; j++) {
      if (column + j < VALUE_DIM) { out[out_at + column + j] = folded[j]; }
    }
  }
  if (thread == 0u) {
    if (SPLIT) {
      lse[(place * params.splits + split) * 2u] = bitcast<u32>(state.x);
      lse[(place * params.splits + split) * 2u + 1u] = bitcast<u32>(state.y);
    } else {
      let natural = (state.x + log2(max(state.y, 1e-30))) * LN_2;
      let bits = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, state.y == 0.0);
      lse[params.lse_first + place] = select(NAN_BITS, bits, is_finite_bits(bitcast<u32>(state.y)));
    }
  }
}
`;
