/**
 * WGSL `sum_over_lanes(scores, thread)`: replaces each of a thread's SCORES values by its sum over the LANES threads of
 * a team, in an order that depends on LANES alone. To be called in uniform control flow.
 */
export function sumOverLanes(useSubgroups: boolean): string {
  return useSubgroups ? BUTTERFLY : THROUGH_WORKGROUP_MEMORY;
}

/** Every lane adds its partner's value at distances LANES / 2, ..., 1: all lanes end with the same bits. */
const BUTTERFLY = `
fn sum_over_lanes(scores: ptr<function, array<f32, SCORES>>, thread: u32) {
  for (var i = 0u; i < SCORES; i++) { // unroll
    var sum = (*scores)[i];
    for (var step = LANES / 2u; step > 0u; step >>= 1u) { sum += subgroupShuffleXor(sum, step); }
    (*scores)[i] = sum;
  }
}`;

const THROUGH_WORKGROUP_MEMORY = `
var<workgroup> lane_scores: array<f32, SCORES * THREADS>;
var<workgroup> team_scores: array<f32, SCORES * TEAMS>;

fn sum_over_lanes(scores: ptr<function, array<f32, SCORES>>, thread: u32) {
  let first = thread - thread % LANES;
  for (var i = 0u; i < SCORES; i++) { // unroll
    lane_scores[i * THREADS + thread] = (*scores)[i];
  }
  workgroupBarrier();
  for (var i = thread % LANES; i < SCORES; i += LANES) {
    var sum = 0.0;
    for (var lane = 0u; lane < LANES; lane++) { sum += lane_scores[i * THREADS + first + lane]; }
    team_scores[i * TEAMS + thread / LANES] = sum;
  }
  workgroupBarrier();
  for (var i = 0u; i < SCORES; i++) { // unroll
    (*scores)[i] = team_scores[i * TEAMS + thread / LANES];
  }
}`;
